"""Padding and number of batches of SequenceLoader, by its bound.

    python benchmarks/waste.py

Lengths are log-normal, median 60, sigma 0.7. "least" is the fewest batches there can be.
"""

import numpy as np

from fastrnn import data


def main():
    print("sequences  batch  max_waste  waste (10 epochs)  batches  least  smaller ones")
    for N in (1_000, 20_000):
        lengths = np.maximum(np.random.default_rng(0).lognormal(np.log(60), 0.7, N).astype(int), 1)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        sequences = data.RaggedArray(np.zeros(offsets[-1], np.uint8), offsets)
        for B in (32, 128):
            for bound in (1.0, 0.2, 0.1, 0.05):
                loader = data.SequenceLoader(sequences, batch_size=B, shuffle=True, max_waste=bound)
                waste, sizes = [], []
                for epoch in range(10):
                    batches = list(loader.batches(epoch))
                    real = sum(int(batch.lengths.sum()) for batch in batches)
                    waste.append(1 - real / sum(batch.inputs.size for batch in batches))
                    sizes = [len(batch.indices) for batch in batches]
                print(
                    f"{N:9} {B:6} {bound:10} {min(waste):8.3f} to {max(waste):.3f} "
                    f"{len(loader):9} {-(-N // B):6} {sum(size < B for size in sizes):8}"
                )


if __name__ == "__main__":
    main()
