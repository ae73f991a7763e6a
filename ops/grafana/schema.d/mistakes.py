"""The dashboard with a mistake in one place, for every kind of place: what the tests of its form must notice."""

import copy


def other_types(value):
    """Values that stand for none of the type of this one."""
    if isinstance(value, bool):
        return ["yes", 7]
    if isinstance(value, (int, float)):
        return ["12", [1]]
    if isinstance(value, str):
        return [7, {"a": 1}]
    return ["x", [1] if isinstance(value, dict) else {"a": 1}]


def places(thing, path=(), kind=()):
    """(path, kind of place) of every field: two panels of a type have the same kinds of places."""
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield (*path, key), (*kind, key)
            yield from places(value, (*path, key), (*kind, key))
    elif isinstance(thing, list):
        for i, value in enumerate(thing):
            of_type = isinstance(value, dict) and value.get("type")
            yield from places(value, (*path, i), (*kind, of_type) if of_type else kind)


def mistakes(board):
    """(what the mistake is, path, board with it)."""
    met = set()
    for path, kind in places(board):
        if kind in met:
            continue
        met.add(kind)

        def changed(change, path=path):
            made = copy.deepcopy(board)
            place = made
            for step in path[:-1]:
                place = place[step]
            change(place, path[-1])
            return made

        def misspell(place, key):
            place[key + "x"] = place.pop(key)
        name = ".".join(kind)
        yield f"{name}: misspelt", path, changed(misspell)
        value = board
        for step in path:
            value = value[step]
        for other in other_types(value):
            yield f"{name}: {other!r}", path, changed(lambda place, key, other=other: place.update({key: other}))
