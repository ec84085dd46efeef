"""The PBFT core that every protocol here shares; `consensus.protocols` says who sends votes to whom."""
