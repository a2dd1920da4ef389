"""Networks as pure functions of their variables. Nothing else imports flax.linen."""

import jax.numpy as jnp

from lensjax.core.errors import UserError
from lensjax.models import classics1d, cnn1d, resnet1d, resnet2d
from lensjax.models.initial import init_variables

__all__ = ["DTYPES", "MODELS", "init_variables", "make_model", "make_projector"]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def _make_resnet1d(model) -> resnet1d.ResNet1D:
    widths = tuple(model.widths)
    resnet1d.projection_blocks(widths)  # complains about impossible widths now, not inside jit
    return resnet1d.ResNet1D(
        widths=widths,
        size=model.kernel_size,
        fold=model.fold,
        norm=_choose("norm", model.norm, resnet1d.NORMS),
        dropout=model.dropout,
        locate=model.locate,
        kinds=bool(model.get("kinds")),
        correct=model.get("correct", True),
        guided=model.get("guided", True),
        dtype=DTYPES[_choose("dtype", model.dtype, DTYPES)],
    )


def _make_plain(network, *fields: str):
    """Factory of a network of spectra with one logit; those of `fields` that config.model has and are not 0 are set."""

    def make(model):
        given = {name: model.get(name) for name in fields if model.get(name)}
        if given.get("first_size", 1) < 1:
            raise UserError(
                f"model.first_size is {given['first_size']}, expected one of 1, 2, ... pixels, or 0: its own"
            )
        dtype = DTYPES[_choose("dtype", model.dtype, DTYPES)]
        return network(**given, dropout=model.dropout, dtype=dtype)

    return make


def _make_resnet2d(model) -> resnet2d.ResNet2D:
    return resnet2d.ResNet2D(
        depth=model.name,
        width=model.width,
        stem=_choose("stem", model.stem, resnet2d.STEMS),
        dtype=DTYPES[_choose("dtype", model.dtype, DTYPES)],
    )


MODELS = {
    "resnet1d": _make_resnet1d,
    "lenet": _make_plain(classics1d.LeNet1D, "first_size"),
    "alexnet": _make_plain(classics1d.AlexNet1D, "first_size"),
    "cnn1d": _make_plain(cnn1d.CNN1D, "first_size"),
    "vgg1d": _make_plain(classics1d.VGG1D, "first_size", "width"),
    "inception1d": _make_plain(classics1d.Inception1D, "first_size", "width"),
    "resnet34_1d": _make_plain(classics1d.ResNet34, "first_size", "width"),
    **dict.fromkeys(resnet2d.DEPTHS, _make_resnet2d),
}


def make_model(model):
    """The flax Module that `config.model` describes; UserError for a name or value that does not exist.

    Those of spectra are called as module.apply(variables, x (N, P, C), snr (N, P), mask (N, P), train) and return a
    dict with logit (N,) and, where they locate the line, pixel_logit (N, P). Those of images are called as
    module.apply(variables, image (N, H, W, B), train) and return features (N, D).
    """
    return MODELS[_choose("name", model.name, MODELS)](model)


def make_projector(head) -> resnet2d.Projector:
    """The Module features (N, D) -> (N, head.size) whose output a contrastive loss compares."""
    return resnet2d.Projector(head.hidden, head.size, head.get("norm", False))


def _choose(key: str, value: str, allowed) -> str:
    if value not in allowed:
        raise UserError(f"model.{key} is {value!r}, expected one of {', '.join(allowed)}")
    return value
