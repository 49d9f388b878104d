"""What to cite: the papers behind the components that a network or a study uses.

An entry names its arXiv number, or a DOI, and the venue; volumes and pages are left out
where they were not at hand.
"""

import inspect
from collections.abc import Callable, Iterator

from torch import nn

from sj_ext import attack, cka, fisher, pruning, readout, surrogate

_ENTRIES = {
    "sj_ext": """@software{sj_ext,
  author = {{The sj_ext developers}},
  title = {{sj\\_ext}: masked surrogates, temporal readouts and temporal analyses for
    {SpikingJelly}},
  version = {VERSION},
  year = {2026}
}""",
    "fang2023spikingjelly": """@article{fang2023spikingjelly,
  author = {Fang, Wei and Chen, Yanqi and Ding, Jianhao and Yu, Zhaofei and Masquelier,
    Timoth{\\'e}e and Chen, Ding and Huang, Liwei and Zhou, Huihui and Li, Guoqi and
    Tian, Yonghong},
  title = {{SpikingJelly}: An open-source machine learning infrastructure platform for
    spike-based intelligence},
  journal = {Science Advances},
  volume = {9},
  number = {40},
  pages = {eadi1480},
  year = {2023},
  doi = {10.1126/sciadv.adi1480}
}""",
    "li2024masked": """@article{li2024masked,
  author = {Li, Yang and Zhao, Feifei and Zhao, Dongcheng and Zeng, Yi},
  title = {Directly Training Temporal Spiking Neural Network with Sparse Surrogate
    Gradient},
  journal = {Neural Networks},
  year = {2024},
  eprint = {2406.19645},
  archivePrefix = {arXiv}
}""",
    "kim2023temporal": """@inproceedings{kim2023temporal,
  author = {Kim, Youngeun and Li, Yuhang and Park, Hyoungseob and Venkatesha, Yeshwanth
    and Hambitzer, Anna and Panda, Priyadarshini},
  title = {Exploring Temporal Information Dynamics in Spiking Neural Networks},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {37},
  pages = {8308--8316},
  year = {2023},
  eprint = {2211.14406},
  archivePrefix = {arXiv}
}""",
    "li2023uncovering": """@article{li2023uncovering,
  author = {Li, Yuhang and Kim, Youngeun and Park, Hyoungseob and Panda, Priyadarshini},
  title = {Uncovering the Representation of Spiking Neural Networks Trained with
    Surrogate Gradient},
  journal = {Transactions on Machine Learning Research},
  year = {2023},
  eprint = {2304.13098},
  archivePrefix = {arXiv}
}""",
    "kornblith2019similarity": """@inproceedings{kornblith2019similarity,
  author = {Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton,
    Geoffrey},
  title = {Similarity of Neural Network Representations Revisited},
  booktitle = {International Conference on Machine Learning},
  year = {2019},
  eprint = {1905.00414},
  archivePrefix = {arXiv}
}""",
    "deng2022temporal": """@inproceedings{deng2022temporal,
  author = {Deng, Shikuang and Li, Yuhang and Zhang, Shanghang and Gu, Shi},
  title = {Temporal Efficient Training of Spiking Neural Network via Gradient
    Re-weighting},
  booktitle = {International Conference on Learning Representations},
  year = {2022},
  eprint = {2202.11946},
  archivePrefix = {arXiv}
}""",
    "kim2022lottery": """@inproceedings{kim2022lottery,
  author = {Kim, Youngeun and Li, Yuhang and Park, Hyoungseob and Venkatesha, Yeshwanth
    and Yin, Ruokai and Panda, Priyadarshini},
  title = {Exploring Lottery Ticket Hypothesis in Spiking Neural Networks},
  booktitle = {European Conference on Computer Vision},
  year = {2022},
  eprint = {2207.01382},
  archivePrefix = {arXiv}
}""",
    "frankle2020linear": """@inproceedings{frankle2020linear,
  author = {Frankle, Jonathan and Dziugaite, Gintare Karolina and Roy, Daniel M. and
    Carbin, Michael},
  title = {Linear Mode Connectivity and the Lottery Ticket Hypothesis},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
  eprint = {1912.05671},
  archivePrefix = {arXiv}
}""",
    "rauber2017foolbox": """@inproceedings{rauber2017foolbox,
  author = {Rauber, Jonas and Brendel, Wieland and Bethge, Matthias},
  title = {Foolbox: A {Python} toolbox to benchmark the robustness of machine learning
    models},
  booktitle = {Reliable Machine Learning in the Wild Workshop, International Conference
    on Machine Learning},
  year = {2017},
  eprint = {1707.04131},
  archivePrefix = {arXiv}
}""",
    "theis2018faster": """@misc{theis2018faster,
  author = {Theis, Lucas and Korshunova, Iryna and Tejani, Alykhan and Husz{\\'a}r,
    Ferenc},
  title = {Faster gaze prediction with dense networks and {Fisher} pruning},
  year = {2018},
  eprint = {1801.05787},
  archivePrefix = {arXiv}
}""",
    "goodfellow2015explaining": """@inproceedings{goodfellow2015explaining,
  author = {Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian},
  title = {Explaining and Harnessing Adversarial Examples},
  booktitle = {International Conference on Learning Representations},
  year = {2015},
  eprint = {1412.6572},
  archivePrefix = {arXiv}
}""",
    "madry2018towards": """@inproceedings{madry2018towards,
  author = {Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras,
    Dimitris and Vladu, Adrian},
  title = {Towards Deep Learning Models Resistant to Adversarial Attacks},
  booktitle = {International Conference on Learning Representations},
  year = {2018},
  eprint = {1706.06083},
  archivePrefix = {arXiv}
}""",
    "croce2019sparse": """@inproceedings{croce2019sparse,
  author = {Croce, Francesco and Hein, Matthias},
  title = {Sparse and Imperceivable Adversarial Attacks},
  booktitle = {International Conference on Computer Vision},
  year = {2019},
  eprint = {1909.05040},
  archivePrefix = {arXiv}
}""",
    "andriushchenko2020square": """@inproceedings{andriushchenko2020square,
  author = {Andriushchenko, Maksym and Croce, Francesco and Flammarion, Nicolas and
    Hein, Matthias},
  title = {Square Attack: a query-efficient black-box adversarial attack via random
    search},
  booktitle = {European Conference on Computer Vision},
  year = {2020},
  eprint = {1912.00049},
  archivePrefix = {arXiv}
}""",
    "pereznieves2021sparse": """@inproceedings{pereznieves2021sparse,
  author = {Perez-Nieves, Nicolas and Goodman, Dan F. M.},
  title = {Sparse Spiking Gradient Descent},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2021}
}""",
}

_ALWAYS = ("sj_ext", "fang2023spikingjelly")
_MASKED, _FISHER = ("li2024masked",), ("kim2023temporal",)
_FOOLBOX = ("rauber2017foolbox",)
_CKA = ("kornblith2019similarity", "li2023uncovering")

_BY_CLASS: dict[type, tuple[str, ...]] = {
    surrogate.MaskedSurrogate: _MASKED,
    surrogate.BernoulliMask: _MASKED,
    surrogate.WindowMask: ("pereznieves2021sparse",),
    surrogate.MaskRule: (),
    nn.Module: (),
    readout.TemporallyWeightedOutput: _MASKED,
    readout.TemporalEfficientTrainingLoss: ("deng2022temporal",),
    readout.TemporalConcentrationLoss: _FISHER,
    fisher.TemporalFisher: _FISHER,
    fisher.FisherResult: _FISHER,
    # Rounds go back to an early epoch, as in the second of these.
    pruning.FisherPruningScheduler: (*_FISHER, "frankle2020linear"),
    pruning.EarlyTimeRule: _FISHER,
    pruning.KLTimeRule: ("kim2022lottery",),
    pruning.TimeRule: (),
    pruning.FisherScore: ("theis2018faster",),
    pruning.MagnitudeScore: (),
    pruning.RandomScore: (),
    cka.CKA: _CKA,
    cka.CKAResult: _CKA,
    cka.TimeDynamics: _CKA,
    attack.FGSM: ("goodfellow2015explaining", *_FOOLBOX),
    attack.PGD: ("madry2018towards", *_FOOLBOX),
    attack.SparsePGD: ("croce2019sparse",),
    attack.RandomSearch: ("andriushchenko2020square",),
    attack.Attack: (),
}
_BY_FUNCTION: dict[Callable[..., object], tuple[str, ...]] = {
    readout.temporally_weighted_cross_entropy: _MASKED,
    readout.temporal_efficient_training_loss: ("deng2022temporal",),
    readout.temporal_concentration_loss: _FISHER,
    fisher.information_centroid: _FISHER,
    fisher.fisher_diagonal: (),
    cka.linear_cka: ("kornblith2019similarity",),
    cka.hsic: ("kornblith2019similarity",),
    attack.robust_accuracy: _FOOLBOX,
    attack.perturb: _FOOLBOX,
}


def cite(*used: object, show: bool = True) -> str:
    """Print the BibTeX of what a network, or a study, uses.

    SpikingJelly and this package are cited in any case.

    Args:
        *used: Networks, whose modules are all looked at, and other components:
            readouts, losses, analyses and their results, pruning schedulers, attacks;
            a class or a function of `sj_ext` will do. What follows no paper adds none.
        show: Whether to print; else the text is only returned.

    Returns:
        The same text, an entry for each paper, in alphabetical order of the keys.

    Raises:
        TypeError: If something is neither a module nor a component of `sj_ext`.
    """
    keys = {*_ALWAYS}
    for one in used:
        for part in _parts(one):
            keys |= _keys(part)
    text = "\n\n".join(_entry(key) for key in sorted(keys)) + "\n"
    if show:
        print(text, end="")
    return text


def _parts(used: object) -> Iterator[object]:
    yield used
    if isinstance(used, nn.Module):
        for module in used.modules():
            yield module
            if isinstance(module, surrogate.MaskedSurrogate):
                yield module.mask
    elif isinstance(used, pruning.FisherPruningScheduler):
        yield used.score
        if used.early_time is not None:
            yield used.early_time


def _keys(part: object) -> set[str]:
    if inspect.isfunction(part):
        known = [keys for one, keys in _BY_FUNCTION.items() if one is part]
    else:
        kind = part if isinstance(part, type) else type(part)
        known = [keys for base, keys in _BY_CLASS.items() if issubclass(kind, base)]
    if not known and not _is_ours(part):
        raise TypeError(
            f"Expected `used` to be networks and components of sj_ext, got {part!r}."
        )
    return {key for keys in known for key in keys}


def _is_ours(part: object) -> bool:
    """Whether it is a class, an object of one, or a function, of this package."""
    named = part if hasattr(part, "__qualname__") else type(part)
    package = __name__.partition(".")[0]
    return getattr(named, "__module__", "").partition(".")[0] == package


def _entry(key: str) -> str:
    # Read late: the package's version is known once it is imported.
    import sj_ext

    return _ENTRIES[key].replace("VERSION", sj_ext.__version__)
