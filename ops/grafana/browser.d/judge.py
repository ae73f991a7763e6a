"""What is wrong with a picture of the dashboard, by what a browser has seen of it (look.js)."""

# Letters reach a hair out of the boxes that their fonts name.
SLACK = 0.5
# What the Web Content Accessibility Guidelines ask of a text, and of a large one (24 pixels).
CONTRAST, LARGE_CONTRAST, LARGE = 4.5, 3.0, 24
PIXELS = 12


def inside(box, around):
    return (box["x"] >= around["x"] - SLACK and box["x"] + box["width"] <= around["x"] + around["width"] + SLACK
            and box["y"] >= around["y"] - SLACK and box["y"] + box["height"] <= around["y"] + around["height"] + SLACK)


def overlap(one, other):
    def shared(at, size):
        return min(one[at] + one[size], other[at] + other[size]) - max(one[at], other[at])
    return shared("x", "width") > SLACK and shared("y", "height") > SLACK


def of_place(seen):
    for text in seen["texts"]:
        if not inside(text, seen["boxes"].get(text["panel"], seen["picture"])):
            yield f"\"{text['words']}\" leaves {text['panel'] or 'the picture'}"
    for line in seen["lines"]:
        if not inside(line, seen["boxes"].get(line["panel"], seen["picture"])):
            yield f"a line leaves {line['panel']}"
    texts = seen["texts"]
    for i, one in enumerate(texts):
        for other in texts[i + 1:]:
            if overlap(one, other):
                yield f"\"{one['words']}\" and \"{other['words']}\" overlap"


def of_ink(seen):
    for text in seen["texts"]:
        if text["over"]:
            yield f"\"{text['words']}\" is under {text['over']}"
        least = LARGE_CONTRAST if text["size"] >= LARGE else CONTRAST
        if text["pixels"] < PIXELS or text["contrast"] < least:
            yield (f"\"{text['words']}\" cannot be read: {text['pixels']} pixels of its colour,"
                   f" contrast {text['contrast']:.1f}")


def of_titles(seen, board):
    for panel in board["panels"]:
        mine = [text["words"] for text in seen["texts"] if text["panel"] == f"panel-{panel['id']}"]
        if mine[:1] != [panel["title"]]:
            yield f"panel {panel['id']} has no title \"{panel['title']}\""


def faults(seen, board):
    if seen.get("error"):
        return [f"no picture: {seen['error']}"]
    found = [*of_titles(seen, board), *of_place(seen), *of_ink(seen)]
    if seen["seenThrough"]:
        found.append("the page can be seen through it")
    size = {"width": seen["picture"]["width"], "height": seen["picture"]["height"]}
    if seen["image"] != size:
        found.append(f"the image is {seen['image']} and the picture {size}")
    return found
