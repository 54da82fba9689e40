"""The reference's class of models, method by method, over its own dictionaries."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connprops.arrays import Floats, Ints
from connprops.compat import specifications
from connprops.compat.errors import CompatError, UnknownNameError
from connprops.compat.specifications import checked, draw, finished
from connprops.errors import ConnpropsWarning, listing
from connprops.families.registry import REFERENCE_FAMILIES
from connprops.model.model import Model
from connprops.model.reference_json import as_text, to_json
from connprops.schema import N_SYN_PER_CONN
from connprops.store import sealed
from connprops.store.folder import write_text

if TYPE_CHECKING:
    import pandas as pd


class ConnPropsModel:
    """Properties of connections and synapses between types: what the reference draws from.

    It has the names, methods and files of the reference's class of that name, so that its
    wiring and rewiring can use it. Values are drawn from numpy's global state: after
    ``numpy.random.seed``, they are those of the reference.

    Parameters
    ----------
    src_types, tgt_types
        Source and target types.
    prop_stats
        Distributions by property, source type and target type: dicts of ``type``, its parameters,
        and optionally ``shared_within``, ``dtype``, ``lower_bound`` and ``upper_bound``.
    prop_cov
        Correlations (a Gaussian copula): ``props``, names of properties, and ``cov``, by source
        and target type their symmetric matrix with ones in its diagonal.
    **others
        Left aside; with a warning, unless the name begins with ``__``.

    Raises
    ------
    CompatError
        Where the distributions or the correlations do not hold together: the message names property
        and pathway.
    """

    param_names: ClassVar = ["src_types", "tgt_types", "prop_stats", "prop_cov"]
    param_defaults: ClassVar[dict[str, Any]] = {"prop_cov": {}}
    data_names: ClassVar[list[str]] = []
    input_names: ClassVar = ["src_type", "tgt_type", "n_syn"]
    distribution_attributes: ClassVar = {
        name: specifications.parameters(name) for name in REFERENCE_FAMILIES
    }

    def __init__(
        self,
        *,
        src_types: Sequence[str],
        tgt_types: Sequence[str],
        prop_stats: Mapping[str, Any],
        prop_cov: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        unused = [name for name in others if not name.startswith("__")]
        if unused:
            text = f"the model has no use for {listing(unused)}"
            warnings.warn(text, ConnpropsWarning, stacklevel=2)
        self.src_types: list[str] = list(src_types)
        self.tgt_types: list[str] = list(tgt_types)
        if not isinstance(prop_stats, Mapping):
            raise CompatError.of('"prop_stats" dictionary required!', found=repr(prop_stats))
        self.prop_stats: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
            name: self._checked_distributions(name, of) for name, of in prop_stats.items()
        }
        self.prop_names = list(self.prop_stats)
        self.has_nsynconn = N_SYN_PER_CONN in self.prop_names
        self.prop_cov: dict[str, Any] = specifications.plain(prop_cov or {})
        self.prop_cov_names: list[str] = self.prop_cov.get("props", [])
        self.prop_cov_mat: dict[str, Any] | None = self.prop_cov.get("cov")
        if self.prop_cov:
            self._check_correlations()

    def _checked_distributions(self, name: str, distributions: Any) -> dict[str, dict[str, Any]]:
        by_source: dict[str, dict[str, Any]] = {}
        for source, target in product(self.src_types, self.tgt_types):
            whose = f"{name!r} of {source!r} to {target!r}"
            try:
                distribution = distributions[source][target]
            except (KeyError, TypeError) as error:
                raise CompatError.of(f"Statistics missing! There is no {whose}") from error
            by_source.setdefault(source, {})[target] = checked(distribution, whose)
        return by_source

    def _check_correlations(self) -> None:
        names = self.prop_cov_names
        if not names or self.prop_cov_mat is None:
            raise CompatError.of(
                '"prop_cov" must name properties in "props" and have matrices in "cov"',
                found=repr(sorted(self.prop_cov)),
            )
        of_synapses = [name for name in self.prop_names if name != N_SYN_PER_CONN]
        for name in names:
            if name not in of_synapses:
                raise CompatError.unknown('property in "prop_cov"', name, of_synapses)
        for source, target in product(self.src_types, self.tgt_types):
            whose = f'"prop_cov" of {source!r} to {target!r}'
            try:
                matrix = np.array(self.prop_cov_mat[source][target], dtype=np.float64)
            except (KeyError, TypeError, ValueError) as error:
                raise CompatError.of(f"{whose} is missing or no matrix") from error
            if matrix.shape != (len(names), len(names)):
                expected = f"a row and a column for each of {names}"
                fact = f"{whose} has the wrong size"
                raise CompatError.of(fact, found=str(matrix.shape), expected=expected)
            if not ((np.diag(matrix) == 1).all() and np.array_equal(matrix, matrix.T)):
                expected = "a symmetric one with ones in its diagonal"
                raise CompatError.of(f"{whose} is no correlation matrix", expected=expected)
            specs = (self.prop_stats[name][source][target] for name in names)
            if len({bool(spec.get("shared_within", True)) for spec in specs}) > 1:
                raise CompatError.of(
                    f"{whose}: some of its properties are shared within connections, some not",
                    hint="correlate those that are shared, or those that are not",
                )

    @classmethod
    def from_model(cls, model: Model) -> ConnPropsModel:
        """Return a model of this package as one of the reference's class.

        Families that the reference lacks become others, with a warning: see
        :func:`connprops.model.reference_json.to_json`.
        """
        return cls.model_from_dict(json.loads(to_json(model)))

    @classmethod
    def model_from_dict(
        cls, model_dict: Mapping[str, Any], data_dict: Mapping[str, Any] | None = None
    ) -> ConnPropsModel:
        """Return the model that a dict describes, as a model file holds it."""
        rest = {**model_dict, **(data_dict or {})}
        kind = rest.pop("model", None)
        if kind != cls.__name__:
            raise CompatError.of("Model type not found!", found=repr(kind), expected=cls.__name__)
        rest.pop("data_keys", None)
        missing = set(cls.param_names) - set(cls.param_defaults) - rest.keys()
        if missing:
            fact = f"Missing parameters for model initialization! There is no {min(missing)!r}"
            raise CompatError.of(fact)
        return cls(**rest)

    @classmethod
    def model_from_file(cls, model_file: str | Path) -> ConnPropsModel:
        """Return the model of a JSON file; CompatError where there is none."""
        file = Path(model_file)
        if not file.is_file():
            raise CompatError.of(f'Model file "{file}" not found!')
        try:
            with file.open("rb") as opened:
                content = json.loads(sealed.checked(opened, file))
        except (OSError, ValueError, RecursionError) as error:
            raise CompatError.of(f"{file} is not JSON", found=str(error)) from error
        if not isinstance(content, dict):
            raise CompatError.of(f"{file} is not a model", found=type(content).__name__)
        return cls.model_from_dict(content)

    @classmethod
    def init_model(cls, model_spec: Mapping[str, Any]) -> ConnPropsModel:
        """Return the model of a file, ``{"file": ...}``, or that a dict describes."""
        if "file" not in model_spec:
            return cls.model_from_dict(model_spec)
        if len(model_spec) > 1:
            raise CompatError.of(
                "Inconsistent model specification!",
                found=repr([*model_spec]),
                expected='nothing else where there is "file"',
            )
        return cls.model_from_file(model_spec["file"])

    def save_model(self, model_path: str | Path, model_name: str) -> None:
        """Write ``model_name``.json into a folder; a file that is there is replaced."""
        content = as_text(self.src_types, self.tgt_types, self.prop_stats, self.prop_cov)
        write_text(Path(model_path) / f"{model_name}.json", content, overwrite=True)

    def get_param_dict(self) -> dict[str, Any]:
        """Return what the model is made of: types, distributions, correlations."""
        return {name: getattr(self, name) for name in self.param_names}

    def get_data_dict(self) -> dict[str, Any]:
        """Return the tables that belong to the model: none."""
        return {}

    def get_prop_names(self) -> list[str]:
        """Return the names of the properties."""
        return self.prop_names

    def get_prop_cov_names(self) -> list[str]:
        """Return the names of the properties that are correlated."""
        return self.prop_cov_names

    def get_prop_cov_mat(self, src_type: str, tgt_type: str) -> Floats:
        """Return the correlation matrix of a pathway, in the order of those names."""
        if self.prop_cov_mat is None:
            raise CompatError.of("The model has no correlations")
        self._check_types(src_type, tgt_type)
        return np.array(self.prop_cov_mat[src_type][tgt_type])

    def get_src_types(self) -> list[str]:
        """Return the source types."""
        return self.src_types

    def get_tgt_types(self) -> list[str]:
        """Return the target types."""
        return self.tgt_types

    def get_distr_props(self, prop_name: str, src_type: str, tgt_type: str) -> dict[str, Any]:
        """Return type and parameters of one distribution.

        Raises
        ------
        UnknownNameError
            Where there is no such property or type; it is a KeyError too.
        """
        if prop_name not in self.prop_stats:
            raise UnknownNameError.unknown("property", prop_name, self.prop_names)
        self._check_types(src_type, tgt_type)
        return self.prop_stats[prop_name][src_type][tgt_type]

    def _check_types(self, source: str, target: str) -> None:
        if source not in self.src_types:
            raise UnknownNameError.unknown("source type", source, self.src_types)
        if target not in self.tgt_types:
            raise UnknownNameError.unknown("target type", target, self.tgt_types)

    @staticmethod
    def zero_truncated_poisson(lam: float, size: int = 1) -> Ints:
        """Draw from a zero-truncated Poisson distribution of a rate."""
        return specifications.zero_truncated_poisson(lam, size)

    @staticmethod
    def compute_ztpoisson_lambda(mean: float) -> float:
        """Return the rate of a zero-truncated Poisson distribution of a mean."""
        return specifications.ztpoisson_rate(mean)

    @staticmethod
    def draw_from_distribution(distr_spec: Mapping[str, Any], size: int = 1) -> NDArray[Any]:
        """Draw values from a distribution, before bounds and data type."""
        return draw(checked(distr_spec, "the given distribution"), size)

    @staticmethod
    def remap_distribution(values: ArrayLike, distr_spec: Mapping[str, Any]) -> NDArray[Any]:
        """Return standard normal values as values of a distribution, in its bounds and type."""
        spec = checked(distr_spec, "the given distribution")
        return specifications.from_normal(values, spec)

    def draw(self, prop_name: str, src_type: str, tgt_type: str, size: int = 1) -> NDArray[Any]:
        """Draw a property of the synapses of one connection, or ``n_syn_per_conn`` of several.

        Returns
        -------
        numpy.ndarray
            (size,): all equal where the property is shared within connections. Numbers of
            synapses are whole, and at least 1.
        """
        spec = self.get_distr_props(prop_name, src_type, tgt_type)
        if prop_name == N_SYN_PER_CONN:
            values = np.maximum(np.round(draw(spec, size)).astype(int), 1)
        elif spec.get("shared_within", True):
            values = np.repeat(draw(spec, 1), size)
        else:
            values = draw(spec, size)
        return finished(values, spec)

    def draw_cov(self, src_type: str, tgt_type: str, size: int = 1) -> list[NDArray[Any]]:
        """Draw the correlated properties of the synapses of one connection.

        Returns
        -------
        list of numpy.ndarray
            For each property of :meth:`get_prop_cov_names` its values, (size, 1).
        """
        names = self.prop_cov_names
        if not names:
            return []
        specs = [self.get_distr_props(name, src_type, tgt_type) for name in names]
        matrix = self.get_prop_cov_mat(src_type, tgt_type)
        n_draws = 1 if specs[0].get("shared_within", True) else size
        normal = np.random.multivariate_normal(  # noqa: NPY002 - as the reference draws
            np.zeros(len(names)), matrix, size=n_draws
        )
        normal = np.broadcast_to(normal, (size, len(names)))
        return [specifications.from_normal(normal[:, [i]], spec) for i, spec in enumerate(specs)]

    def get_model_output(
        self, src_type: str, tgt_type: str, n_syn: int | None = None
    ) -> pd.DataFrame:
        """Draw one connection: see :meth:`apply`."""
        import pandas as pd

        if n_syn is None:
            if not self.has_nsynconn:
                raise CompatError.of(
                    f'"{N_SYN_PER_CONN}" missing',
                    hint="give the number of synapses, n_syn: the model does not have it",
                )
            n_syn = self.draw(N_SYN_PER_CONN, src_type, tgt_type, 1)[0]
        n_synapses = int(n_syn)
        if n_synapses < 1:
            raise CompatError.of('"n_syn" must be at least 1!', found=str(n_syn))
        drawn = {
            name: self.draw(name, src_type, tgt_type, n_synapses)
            for name in self.prop_names
            if name not in (N_SYN_PER_CONN, *self.prop_cov_names)
        }
        together = self.draw_cov(src_type, tgt_type, n_synapses)
        for name, values in zip(self.prop_cov_names, together, strict=True):
            drawn[name] = values[:, 0]
        return pd.DataFrame(drawn, index=range(n_synapses))

    def apply(
        self, *, src_type: str, tgt_type: str, n_syn: int | None = None, **_: Any
    ) -> pd.DataFrame:
        """Draw the synapses of one connection.

        Parameters
        ----------
        src_type, tgt_type
            Its pathway.
        n_syn
            Number of its synapses; by default it is drawn.
        **_
            Inputs of other kinds of models, left aside.

        Returns
        -------
        pandas.DataFrame
            One row per synapse, one column per property but ``n_syn_per_conn``.

        Raises
        ------
        CompatError
            Where the model does not have the number of synapses, and none is given.
        """
        return self.get_model_output(src_type, tgt_type, n_syn)

    def __str__(self) -> str:
        lines = [
            f"{type(self).__name__} ({'with' if self.has_nsynconn else 'w/o'} #syn/conn)",
            f"  {len(self.src_types)} source and {len(self.tgt_types)} target types",
        ]
        for name, by_source in self.prop_stats.items():
            specs = [spec for by_target in by_source.values() for spec in by_target.values()]
            types = "/".join(sorted({spec["type"] for spec in specs}))
            dtypes = "/".join(sorted({str(spec["dtype"]) for spec in specs if "dtype" in spec}))
            lines.append(f"  {name}: {types}" + (f" ({dtypes})" if dtypes else ""))
        if self.prop_cov_names:
            lines.append(f"  correlated: {', '.join(self.prop_cov_names)}")
        return "\n".join(lines)
