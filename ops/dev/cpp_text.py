"""Just enough of C++ to judge a file by its text: comments, string literals and function bodies."""

import dataclasses
import re

TOKEN = re.compile(
    r"""(?P<line_comment>//[^\n]*)
    |(?P<block_comment>/\*.*?\*/)
    |(?P<raw>\b(?:u8|[uUL])?R"(?P<tag>[^\s()\\]{0,16})\((?P<raw_text>.*?)\)(?P=tag)")
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<digits>(?<=[0-9a-fA-F])'(?=[0-9a-fA-F]))
    |(?P<character>'(?:[^'\\\n]|\\.)*')""",
    re.VERBOSE | re.DOTALL)

SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


@dataclasses.dataclass(frozen=True)
class Literal:
    line: int
    text: str


@dataclasses.dataclass(frozen=True)
class Function:
    line: int   # of its signature
    lines: int  # from there to the closing brace


def blank(text):
    return "\n" * text.count("\n")


def code_only(text):
    """The file without comments and with empty literals; every line keeps its number."""

    def replace(match):
        if match["string"] is not None or match["raw"] is not None:
            return '""' + blank(match[0])
        if match["character"] is not None:
            return "' '"
        return "" if match["digits"] is not None else blank(match[0])

    return TOKEN.sub(replace, text)


def literals(text):
    """String literals; adjacent ones are one, as for the compiler. Include lines have none."""
    found, pieces, start, end = [], [], 0, 0
    for match in TOKEN.finditer(text):
        if match["line_comment"] is not None or match["block_comment"] is not None:
            # A comment between two literals does not part them.
            if pieces and text[end:match.start()].strip() == "":
                end = match.end()
            continue
        if match["string"] is None and match["raw"] is None:
            continue
        line_start = text.rfind("\n", 0, match.start()) + 1
        if re.match(r"\s*#\s*include", text[line_start:match.start()]):
            continue
        if pieces and text[end:match.start()].strip() != "":
            found.append(Literal(text.count("\n", 0, start) + 1, "".join(pieces)))
            pieces = []
        if not pieces:
            start = match.start()
        pieces.append(match["raw_text"] if match["raw"] is not None else unescaped(match[0][1:-1]))
        end = match.end()
    if pieces:
        found.append(Literal(text.count("\n", 0, start) + 1, "".join(pieces)))
    return found


def unescaped(text):
    simple = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
    return re.sub(r"\\(.)", lambda match: simple.get(match[1], match[0]), text)


def opens_function(head):
    """Whether the text before a brace, outside of any function, is a function's signature."""
    head = re.sub(r"\btemplate\s*<[^{}]*?>\s*(?=\w)", "", head).strip()
    if re.match(r"(\[\[[^\]]*\]\]|\s|inline)*(namespace|class|struct|union|enum|extern)\b", head):
        return False
    initializer = re.sub(r"\boperator\s*[=!<>+\-*/%&|^~\[\]()]+", "", head)
    initializer = re.sub(r"\([^()]*\)", "()", initializer)  # default arguments
    return "=" not in initializer and (head == "" or ")" in head)


def functions(text):
    """Outermost function bodies. Rough: a brace that is outside of every function and follows a
    parameter list, or a constructor's initializers, opens one."""
    code = re.sub(r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: blank(m[0]), code_only(text))
    result, stack, head_start = [], [], 0
    for match in re.finditer(r"[{};]", code):
        if match[0] == "{":
            head = code[head_start:match.start()]
            outside = all(kind == "scope" for kind, _ in stack)
            if not outside:
                kind = "inner"
            elif opens_function(head):
                kind = "function"
            else:
                kind = "scope" if SCOPE.search(head) else "inner"
            first = head_start + len(head) - len(head.lstrip())
            stack.append((kind, first))
        elif match[0] == "}" and stack:
            kind, first = stack.pop()
            if kind == "function":
                line = code.count("\n", 0, first) + 1
                result.append(Function(line, code.count("\n", 0, match.start()) + 2 - line))
        head_start = match.end()
    return result
