"""Agreement among replicas: PBFT and its relatives as pure state machines, in dynamic regions."""
