"""A stand-in for fastrnn.Trainer and SequenceLoader; temporary."""
import numpy as np
from .. import losses, optim
from ..data import pad_sequence, lengths_to_mask
from ..data.batches import Batch, Loader


class SequenceLoader(Loader):
    def __init__(self, inputs, targets=None, *, batch_size=32, shuffle=False, seed=0):
        self.i, self.t, self.b, self.s, self.seed = inputs, targets, batch_size, shuffle, seed

    def __len__(self):
        return -(-len(self.i) // self.b)

    def batches(self, epoch=0, start=0):
        n = len(self.i)
        order = np.random.default_rng((self.seed, epoch)).permutation(n) if self.s else np.arange(n)
        for k in range(start, len(self)):
            idx = order[k * self.b : (k + 1) * self.b]
            x = [self.i[j] for j in idx]
            lengths = np.array([len(a) for a in x])
            t = mask = None
            if self.t is not None:
                t = [np.asarray(self.t[j]) for j in idx]
                if isinstance(self.t, list):
                    mask = lengths_to_mask(lengths)
                    t = pad_sequence(t)
                else:
                    t = np.stack(t)
            yield Batch(pad_sequence(x), t, lengths, mask, idx)

    def config(self):
        return {}


class History:
    def __init__(self, epochs):
        self.epochs = epochs


class Trainer:
    def __init__(self, model, loss="cross_entropy", optimizer="adam", *, clip_norm=None):
        self.m = model
        self.loss = {"cross_entropy": losses.cross_entropy, "mse": losses.mse}.get(loss, loss)
        self.o, self.clip = optimizer, clip_norm

    def fit(self, data, *, validation=None, epochs=1, seed=0, patience=None, restore_best=None,
            progress=True):
        out, best, best_w, since = [], np.inf, None, 0
        for e in range(epochs):
            tot, n, state = 0.0, 0, None
            for b in data.batches(e):
                (y, state), pb = self.m.vjp(b.inputs, state if data.stateful else None, b.lengths)
                loss, d = self.loss(y, b.targets, mask=b.mask)
                if not np.isfinite(loss):
                    raise FloatingPointError(f"loss {loss}")
                self.o.zero_grad()
                pb(d)
                if self.clip:
                    optim.clip_grad_norm(self.m.parameters(), self.clip)
                self.o.step()
                tot += loss
                n += 1
            rec = {"epoch": e + 1, "loss": tot / max(n, 1)}
            if validation is not None:
                state, tot, n = None, 0.0, 0
                for b in validation.batches():
                    y, state = self.m(b.inputs, state if data.stateful else None, b.lengths)
                    tot += self.loss(y, b.targets, mask=b.mask)[0] * len(b.inputs[0])
                    n += len(b.inputs[0])
                rec["validation_loss"] = tot / n
                if rec["validation_loss"] < best:
                    best, since, best_w = rec["validation_loss"], 0, self.m.state_dict()
                else:
                    since += 1
            out.append(rec)
            if patience is not None and since >= patience:
                break
        if restore_best and best_w is not None:
            self.m.load_state_dict(best_w)
        return History(out)
