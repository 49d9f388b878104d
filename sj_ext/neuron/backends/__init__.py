"""Ways to run a masked neuron over all time steps: one module each.

Every backend has the same three functions. `refuses(x_seq, v, dynamics, surrogate)`
says why it cannot run a case exactly, or None; `multi_step(x_seq, v, dynamics,
surrogate, store_v_seq)` runs it; `multiplier(surrogate, x_seq, over_seq)` draws again
the mask of a pass, from the random state that the pass began in.
"""
