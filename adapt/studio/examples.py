"""The examples of a studio that was given none: synthetic ones like the training data of an embedded model."""

import logging
from collections.abc import Sequence

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.models.loaded import Loaded

COUNT = 12  # of each set

log = logging.getLogger(__name__)


def embedded_examples(*models: Loaded) -> dict[str, Sequence[Example]]:
    """Return examples of the source and of another accent or domain, if one of the models is an embedded one.

    Others have none: people record, drop or write their own.
    """
    names = {model.reference for model in models}
    try:
        if "us-english" in names:
            from adapt.data.synthetic.accents import accents

            speech = accents(train=0, validation=0, test=COUNT, source_test=COUNT)
            return {"data": speech.test, "source": speech.source_test}
        if "weather-en-de" in names:
            from adapt.data.synthetic.domains import domains

            pairs = domains(train=0, validation=0, test=COUNT, source_test=COUNT)
            return {"data": pairs.test, "source": pairs.source_test}
    except InputError as error:  # without espeak-ng
        log.warning("There are no examples to start with: %s", error)
    return {}
