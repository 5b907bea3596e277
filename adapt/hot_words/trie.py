"""A trie of hot words over a model's output units, which scores a text unit by unit (Aho and Corasick 1975).

Each unit of a hot word earns its bonus at once, so that a search does not drop it before it is complete. If the text
goes on in another way, the bonus of the incomplete word is taken back.

    state, bonus = trie.start, 0.0
    for unit in units:
        state, change = trie.step(state, unit)
        bonus += change
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence

START, ANYWHERE = 0, 1


class Trie:
    """Hot words as sequences of output units.

    A state is a node: what the text has of a hot word by now. `START` is the state where a word may begin, and
    `ANYWHERE` that inside another word.

    Args:
        restarts: The units after which a word may begin, such as the space of a CTC model. The start of a text is
            always such a place.
    """

    start = START

    def __init__(self, restarts: Collection[int] = ()) -> None:
        self.restarts = frozenset(restarts)
        self.children: list[dict[int, int]] = [{}, {}]
        self._steps = [0.0, 0.0]  # the bonus of the last unit
        self._ends = [False, False]
        self._linked = False

    def add(self, units: Sequence[int], bonuses: Sequence[float], anywhere: bool) -> None:
        """Add a hot word.

        Args:
            units: Its output units.
            bonuses: The bonus of each unit, in nats.
            anywhere: Whether it may begin after any unit; otherwise only at `START`.
        """
        node = ANYWHERE if anywhere else START
        for unit, bonus in zip(units, bonuses, strict=True):
            if unit not in self.children[node]:
                self.children[node][unit] = len(self.children)
                self.children.append({})
                self._steps.append(0.0)
                self._ends.append(False)
            node = self.children[node][unit]
            self._steps[node] = max(self._steps[node], bonus)
        self._ends[node] = True
        self._linked = False

    def step(self, state: int, unit: int) -> tuple[int, float]:
        """Return the state after a unit, and the change of the bonus in nats."""
        if not self._linked:
            self._link()
        following = self._goto(state, unit)
        return following, self._earned[following] + self._pending[following] - self._pending[state]

    def finish(self, state: int, boundary: int | None = None) -> float:
        """Return the change of the bonus at the end of a text, where `boundary` is the unit that ends a word."""
        if not self._linked:
            self._link()
        earned = 0.0 if boundary is None else self._earned[self._goto(state, boundary)]
        return earned - self._pending[state]

    def state_after(self, units: Sequence[int], state: int = START) -> int:
        """Return the state after further units of a text."""
        if not self._linked:
            self._link()
        for unit in units:
            state = self._goto(state, unit)
        return state

    def continuations(self, state: int) -> Iterator[tuple[int, float, float]]:
        """Yield each unit that begins or continues a hot word: the unit, the change of the bonus, the unit's own."""
        if not self._linked:
            self._link()
        seen: set[int] = set()
        node = state
        while True:
            for unit, child in self.children[node].items():
                if unit not in seen:
                    seen.add(unit)
                    yield unit, self.step(state, unit)[1], self._steps[child]
            if node == ANYWHERE:
                return
            node = self._fails[node]

    @property
    def depth(self) -> int:
        """The number of units of the longest hot word."""
        longest, waiting = 0, [(START, 0), (ANYWHERE, 0)]
        while waiting:
            node, depth = waiting.pop()
            longest = max(longest, depth)
            waiting += [(child, depth + 1) for child in self.children[node].values()]
        return longest

    def pending(self, state: int) -> float:
        """Return the bonus of the incomplete word, which is taken back if the text goes on in another way."""
        if not self._linked:
            self._link()
        return self._pending[state]

    def _goto(self, state: int, unit: int) -> int:
        while True:
            child = self.children[state].get(unit)
            if child is not None:
                return child
            if state == ANYWHERE:
                return START if unit in self.restarts else ANYWHERE
            state = self._fails[state]

    def _link(self) -> None:
        count = len(self.children)
        self._fails = [ANYWHERE] * count
        self._earned, self._pending, totals, ended = [0.0] * count, [0.0] * count, [0.0] * count, [0.0] * count
        waiting = deque([ANYWHERE, START])
        while waiting:
            node = waiting.popleft()
            for unit, child in self.children[node].items():
                if node != ANYWHERE:
                    self._fails[child] = self._goto(self._fails[node], unit)
                totals[child] = totals[node] + self._steps[child]
                ended[child] = totals[child] if self._ends[child] else ended[node]
                self._pending[child] = totals[child] - ended[child]
                # A shorter word that ends here, inside a longer one, has been written as well.
                own = totals[child] - ended[node] if self._ends[child] else self._earned[self._fails[child]]
                self._earned[child] = own
                waiting.append(child)
        self._linked = True
