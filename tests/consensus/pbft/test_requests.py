from council import CHAIN, CLIENT, signed_request

from consensus.identity import Null
from consensus.messages import Batch, Request, encode
from consensus.pbft.requests import MOST, PER_CLIENT, Requests

OTHER = b"other client".ljust(32)


def waiting(*requests):
    book = Requests(CHAIN)
    for request in requests:
        assert book.add(request, encode(request))
    return book


def take(book, most=10, size=1 << 20, refused=lambda request: ""):
    return list(book.take(most, size, refused))


def req(timestamp, operation=b"x", client=CLIENT):
    return signed_request(operation, timestamp, client)


def test_requests_are_taken_in_the_order_of_arrival_and_once():
    book = waiting(req(2), req(1), req(5, client=OTHER))
    assert take(book, most=2) == [encode(req(2)), encode(req(1))]
    assert take(book) == [encode(req(5, client=OTHER))]
    assert take(book) == []
    assert len(book) == 3, "they wait until they are executed"


def test_a_new_view_may_take_them_again():
    book = waiting(req(1), req(2))
    take(book)
    book.release()
    assert take(book) == [encode(req(1)), encode(req(2))]


def test_those_of_a_batch_that_is_voted_on_again_are_not_taken():
    book = waiting(req(1), req(2))
    book.take_those_of(encode(Batch(0, (encode(req(1)),))))
    assert take(book) == [encode(req(2))]


def test_a_batch_has_at_most_so_many_bytes_but_at_least_one_request():
    book = waiting(req(1, b"x" * 100), req(2, b"y" * 100), req(3, b"z"))
    assert take(book, size=10) == [encode(req(1, b"x" * 100))]
    assert take(book, size=len(encode(req(2, b"y" * 100))) + 10) == [encode(req(2, b"y" * 100))]


def test_a_refused_request_is_dropped():
    book = waiting(req(1, b"no"), req(2))
    assert take(book, refused=lambda request: "no" if request.operation == b"no" else "") == [encode(req(2))]
    assert len(book) == 1


def test_one_client_cannot_fill_the_memory():
    book = waiting(*(req(timestamp) for timestamp in range(1, PER_CLIENT + 1)))
    assert not book.add(req(PER_CLIENT + 1), encode(req(PER_CLIENT + 1)))
    assert book.add(req(1, client=OTHER), encode(req(1, client=OTHER)))
    book.done(CLIENT, 1)
    assert book.add(req(PER_CLIENT + 1), encode(req(PER_CLIENT + 1)))


def test_nor_can_many_clients_together():
    book = Requests(CHAIN)
    for number in range(MOST):
        book.add(Request(number.to_bytes(32, "big"), 1, b"", b""), b"encoded")
    assert not book.add(req(1), encode(req(1)))
    assert len(book) == MOST


def test_the_same_timestamp_waits_once():
    book = waiting(req(1))
    assert not book.add(req(1), encode(req(1)))
    assert not book.add(req(1, b"other"), encode(req(1, b"other")))


def test_a_request_is_known_by_its_bytes_not_by_its_number():
    book = waiting(req(1, b"pay 1"))
    forged = Request(CLIENT, 1, b"pay 1000", b"")
    assert book.holds(req(1, b"pay 1"), encode(req(1, b"pay 1")))
    assert not book.holds(forged, encode(forged))


def test_an_executed_request_takes_the_older_ones_of_its_client_along():
    book = waiting(req(3), req(1), req(4), req(3, client=OTHER))
    book.done(CLIENT, 3)
    assert book.waiting() == (encode(req(4)), encode(req(3, client=OTHER)))
    book.done(b"nobody", 9)
    assert len(book) == 2


def test_signatures_are_checked_against_the_client_the_number_and_the_operation():
    book, scheme = Requests(CHAIN), Null(0, 4)
    good = req(1)
    assert book.valid(good, scheme)
    assert not book.valid(Request(OTHER, 1, b"x", good.signature), scheme)
    assert not book.valid(Request(CLIENT, 2, b"x", good.signature), scheme)
    assert not book.valid(Request(CLIENT, 1, b"y", good.signature), scheme)
    assert not Requests(b"another chain".ljust(32)).valid(good, scheme)


def test_a_timestamp_out_of_range_is_refused_before_it_is_used():
    for timestamp in (-1, 1 << 63):
        assert not Requests(CHAIN).valid(Request(CLIENT, timestamp, b"x", b"s"), Null(0, 4))
