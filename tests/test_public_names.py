"""The names that users write: changing one is a decision, never an accident."""

import importlib

import pytest

PUBLIC = {
    "sj_ext": [
        "__version__",
        "attack",
        "available",
        "cite",
        "cka",
        "create",
        "fisher",
        "host",
        "neuron",
        "pruning",
        "readout",
        "register",
        "surrogate",
        "taps",
    ],
    "sj_ext.attack": [
        "Attack",
        "Attackable",
        "EventAttack",
        "FGSM",
        "PGD",
        "RandomSearch",
        "RobustnessResult",
        "SparsePGD",
        "Watched",
        "attackable",
        "gaussian_blur",
        "gaussian_noise",
        "perturb",
        "robust_accuracy",
    ],
    "sj_ext.cka": [
        "CKA",
        "CKAResult",
        "ComparedLayers",
        "Side",
        "Similarity",
        "TimeDynamics",
        "exact_cka",
        "hsic",
        "linear_cka",
    ],
    "sj_ext.fisher": [
        "FisherResult",
        "TemporalFisher",
        "fisher_diagonal",
        "information_centroid",
    ],
    "sj_ext.host": [
        "RELEASE",
        "SUPPORTED",
        "UnsupportedHostError",
        "enter_registry",
        "fused_backward",
        "fused_forward",
        "fused_refusal",
        "multi_step_backends",
        "nodes_without_gradient_in_eval",
        "set_kernel",
        "surrogate_arguments",
        "surrogate_classes",
        "surrogate_refusal",
    ],
    "sj_ext.neuron": [
        "Dynamics",
        "MaskedEIFNode",
        "MaskedIFNode",
        "MaskedIzhikevichNode",
        "MaskedLIFNode",
        "MaskedNode",
        "MaskedParametricLIFNode",
        "MaskedQIFNode",
        "SwapReport",
        "mask_neurons",
        "unmask_neurons",
    ],
    "sj_ext.pruning": [
        "ConstantTimeRule",
        "Cost",
        "CostLedger",
        "CubicSparsity",
        "EarlyTimeRule",
        "FisherMagnitudeScore",
        "FisherPruningScheduler",
        "FisherScore",
        "GeometricSparsity",
        "KLTimeRule",
        "LayerOperations",
        "LayerReport",
        "Limits",
        "ListedSparsity",
        "MagnitudeScore",
        "Operations",
        "PruningReport",
        "RandomScore",
        "RoundReport",
        "SparseOperations",
        "SparsitySchedule",
        "SynapticOperations",
        "TimeChoice",
        "TimeRule",
        "choose",
        "synop_rules",
    ],
    "sj_ext.readout": [
        "CrossEntropyLoss",
        "LastStepReadout",
        "MaxMembraneReadout",
        "RateReadout",
        "Readout",
        "ReadoutLoss",
        "TemporalConcentrationLoss",
        "TemporalEfficientTrainingLoss",
        "TemporallyWeightedOutput",
        "temporal_concentration_loss",
        "temporal_efficient_training_loss",
        "temporally_weighted_cross_entropy",
    ],
    "sj_ext.surrogate": [
        "BernoulliMask",
        "CalibratedWindow",
        "ConstantMask",
        "GradientDensity",
        "LayerDensity",
        "MaskRule",
        "MaskSchedule",
        "MaskedSurrogate",
        "NoiseMask",
        "TopKMask",
        "WeightDensity",
        "WindowMask",
        "calibrate_window",
        "dense",
        "gradient_density",
    ],
    "sj_ext.taps": ["Record", "TimeAxisError", "preserved", "taps"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_frozen(module):
    assert sorted(importlib.import_module(module).__all__) == PUBLIC[module]


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_exists_and_is_documented(module):
    room = importlib.import_module(module)
    for name in room.__all__:
        value = getattr(room, name)
        if callable(value):
            assert value.__doc__, f"{module}.{name} has no docstring"
