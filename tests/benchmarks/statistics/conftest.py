"""Folders of runs with made-up logits, as training writes them."""

import json

import numpy as np
import pytest
import torch

from benchmarks.runs.config import read
from benchmarks.runs.folder import RunFolder


@pytest.fixture
def made_run(tmp_path):
    """Write a run that has the given items right; returns its folder."""

    def make(correct, name="base", seed=0, split="a", names=None, **settings):
        correct = np.asarray(correct, dtype=bool)
        n, T, K = len(correct), 4, 3
        target = np.arange(n) % K
        said = np.where(correct, target, (target + 1) % K)
        logits = np.zeros((n, T, K), dtype=np.float32)
        logits[np.arange(n), :, said] = 1.0
        keys = {"name": name, "seed": seed, "output": tmp_path / "runs", **settings}
        words = [str(word) for key, v in keys.items() for word in (f"--{key}", v)]
        config = read(words)
        folder = RunFolder(config)
        folder.create()
        weight = torch.ones(T)
        if config.readout.name == "max":
            weight = torch.full((T,), torch.nan)
        folder.write_predictions(
            names=np.array(names or [f"item {i}" for i in range(n)]),
            target=target,
            logits_selected=logits,
            logits_last=logits,
            readout_weight_selected=weight.numpy(),
            readout_weight_last=weight.numpy(),
        )
        environment = {"split": split, "data": "d", "seed": seed}
        (folder.path / "environment.json").write_text(json.dumps(environment))
        folder.write_result({"test_accuracy": {"selected": float(correct.mean())}})
        return folder.path

    return make
