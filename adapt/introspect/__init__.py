"""What a model's neurons do, and what changed in them.

A measure is a function that `innertune introspect measure=NAME` calls, named by `_target_` in `conf/measure/NAME.yaml`
(with `_partial_: true`), where its own options stand too:

    measure(loaded, splits, loader, **options) -> Measured

`loaded` is the model with its reference and fingerprint (`adapt.models.loaded.Loaded`), `splits` are checked
(`adapt.data.splits`), `loader` makes batches; a measure that reads no data takes neither of these two. It raises
InputError where it cannot measure what is asked. What it returns (`adapt.introspect.measured.Measured`) writes its own
files into a run's folder, its page among them, and says in numbers and in a sentence what was found.
`adapt/introspect/profiles/measure.py` is the one to read.
"""
