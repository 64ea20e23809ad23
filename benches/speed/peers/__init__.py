"""Other implementations, which join in where they are installed."""

from peers import armadillo, gmmx, mclust

PEERS = (mclust, gmmx, armadillo)
