"""What compares published rows with runs, in several tests."""

from licfg_hf.recipes.published import differences


def words_of(command):
    """The arguments of every run that a command stands for."""
    choices = [word.split("|") if "|" in word else [word] for word in command]
    several = max(map(len, choices))
    return [[each[index % len(each)] for each in choices] for index in range(several)]


def unexplained(row, options, reasons):
    return [str(found) for found in differences(row, options, reasons) if found.kind == "differs" and not found.reason]


def another(value):
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 + 1
    if isinstance(value, list):
        return [another(part) for part in value]
    return "another" if value is None else f"{value}-another"


def with_value(options, path, value):
    first, *rest = path
    return {**options, first: with_value(dict(options.get(first) or {}), rest, value) if rest else value}
