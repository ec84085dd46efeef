"""Faulty replicas of a simulated council: what each does wrong, and where they sit."""

from dataclasses import dataclass

from consensus.regions import Regions
from shards.errors import InputError
from shards.nearest import suggest

FALSE_AGGREGATE, LYING_HEAD, SILENT = "false-aggregate", "lying-head", "silent"
KINDS = {
    FALSE_AGGREGATE: "as leader proposes an aggregate that is not the round's",
    LYING_HEAD: "as head of a region states a false sum, and forges the bundles it should pass on",
    SILENT: "sends nothing",
}


@dataclass(frozen=True)
class Faults:
    """How many replicas of each kind are faulty, as a user writes it: ``lying-head:2, false-aggregate:1``.

    Attributes
    ----------
    counts : tuple of (str, int)
        Kinds of `KINDS` with their numbers.
    """

    counts: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """Read what a user wrote; empty for none.

        Raises
        ------
        InputError
            For an unknown kind, or a number that is none.
        """
        counts: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            kind, _, number = part.partition(":")
            if kind not in KINDS:
                raise InputError(f"'{part}': no such fault; {suggest(kind, KINDS)}")
            if not number.strip().isdecimal() or kind in counts:
                raise InputError(f"'{part}': expected {kind}:NUMBER, once")
            counts[kind] = int(number)
        return cls(tuple(counts.items()))

    def place(self, regions: Regions, bound: int) -> dict[int, str]:
        """Choose who is faulty: lying heads head their regions, and who lies about the aggregate leads first.

        Parameters
        ----------
        regions : Regions
            Of the council; replica 0 leads its first view, and the first member of a region is its first head.
        bound : int
            F, the most faulty replicas that the protocol survives.

        Returns
        -------
        dict
            Kind by replica.

        Raises
        ------
        InputError
            If there are more faults than replicas or regions, or than the protocol survives.
        """
        if (total := sum(count for _, count in self.counts)) > bound:
            raise InputError(f"{total} faulty replicas; {regions.n} survive at most {bound}, so ask for fewer")
        heads = [region[0] for region in regions.members if region[0] != 0]
        everyone = list(range(regions.n))
        faulty: dict[int, str] = {}
        for kind, order in ((FALSE_AGGREGATE, everyone), (LYING_HEAD, heads), (SILENT, everyone[::-1])):
            count = dict(self.counts).get(kind, 0)
            free = [replica for replica in order if replica not in faulty]
            if count > len(free):
                raise InputError(f"{kind}:{count}: there are {len(free)} replicas to be it; ask for fewer")
            faulty |= dict.fromkeys(free[:count], kind)
        return faulty


NO_FAULTS = Faults()
