"""The measures of `innertune introspect` as functions for notebooks: `measures.profiles(model, splits)`.

`weights` reads no data: `measures.weights(adapted, "us-english")`. Each returns plain data with a `summary`, `figures`,
`save` and `load`; the pages that draw them are in `adapt.report`.
"""

from adapt.introspect.attribution.measure import attribution
from adapt.introspect.bias.measure import bias
from adapt.introspect.probes.measure import probes
from adapt.introspect.profiles.measure import profiles
from adapt.introspect.similarity.measure import similarity
from adapt.introspect.topography.measure import topography
from adapt.introspect.weights.measure import weights

__all__ = ["attribution", "bias", "probes", "profiles", "similarity", "topography", "weights"]
