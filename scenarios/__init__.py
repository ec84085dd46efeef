"""Ready-made federations, one folder each, every one a Flower app that ``flwr run`` accepts too."""
