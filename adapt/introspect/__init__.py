"""Measures of what the neurons of a model do, and of how training changed them.

A measure is a function that returns a `MeasureResult` (`adapt.introspect.result`):

    measure(loaded, splits, loader=None, **options) -> MeasureResult

`loaded` is the model with its reference and fingerprint (`adapt.models.loaded.Loaded`), `splits` is the data, and
`loader` makes batches (None: `Loader()`). A measure that reads no data has neither `splits` nor `loader`. A measure
raises InputError if an option or the data does not fit.

`innertune introspect measure=NAME` calls the function that `conf/measure/NAME.yaml` names as `_target_`. The same file
holds the options of the measure, and names the function that draws its page:

    page(path, result, title, config="")

`adapt/introspect/similarity/measure.py` with `adapt/report/similarity.py` is a short example.
"""
