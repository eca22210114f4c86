"""Risk categories, their definitions, and the `-A-B-` label strings of the published datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trainer.errors import DataError
from trainer.suggest import did_you_mean

OTHER_HARMS = "Other Harms"

FINANCIAL = "Financial Crime and Theft"
DISCRIMINATION = "Discrimination and Verbal Abuse"
VIOLENCE = "Violence"
DRUGS = "Illegal Drug-Related Activities and Substance Abuse"
PRIVACY = "Privacy Violations"
SEXUAL = "Sexual Misconduct, Exploitation, and Infidelity"
WEAPONS = "Weapons, Explosives, Arson, and Illegal Firearm Transactions"


_HYPHENS = str.maketrans("_/", "--")


@dataclass(frozen=True)
class Taxonomy:
    """The named risk categories of one world.

    Attributes:
        definitions: category name -> what belongs to it, in the order used in configs. A label that is
            only ever a catch-all (`OTHER_HARMS`) is not in here: no safety config can allow it.
        trained_on: the categories that training configs may mention; the others are held out as unseen.
    """

    definitions: Mapping[str, str]
    trained_on: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.definitions)

    @property
    def unseen(self) -> tuple[str, ...]:
        return tuple(name for name in self.definitions if name not in self.trained_on)

    def parse_label(self, text: str) -> frozenset[str]:
        """`-A-B-` -> {A, B}; `--` and the empty string -> {}. Names may themselves contain a hyphen, in whose place the
        published files also have an underscore or a slash.

        Raises:
            DataError: the text names a category that the taxonomy does not have.
        """
        known = sorted((*self.names, OTHER_HARMS), key=len, reverse=True)
        found: set[str] = set()
        rest = text.strip().translate(_HYPHENS)
        while rest.strip("-"):
            rest = rest.removeprefix("-")
            name = next((n for n in known if rest == n or rest.startswith(n + "-")), None)
            if name is None:
                hint = did_you_mean(rest.strip("-"), known)
                raise DataError(f"unknown risk category in label {text!r} at {rest!r}; {hint}")
            found.add(name)
            rest = rest[len(name) :]
        return frozenset(found)

    def format_label(self, categories: Iterable[str]) -> str:
        """{A, B} -> `-A-B-`, names in taxonomy order; {} -> `--`."""
        order = (*self.names, OTHER_HARMS)
        return "-" + ("".join(f"{name}-" for name in sorted(categories, key=order.index)) or "-")


# The taxonomy of the paper (appendix); the definitions are this project's own wording.
COSA = Taxonomy(
    definitions={
        FINANCIAL: (
            "Content that helps someone take money or property by deceit or force, such as fraud, scams, laundering, "
            "counterfeiting, tax evasion, shoplifting or burglary."
        ),
        DISCRIMINATION: (
            "Content that demeans, stereotypes or harasses people, in particular for a trait such as origin, religion, "
            "gender, age or disability. This includes slurs, insults and bullying."
        ),
        VIOLENCE: (
            "Content that describes, encourages or explains physical harm to people or animals, including assault, "
            "torture, killing, self-inflicted injury and graphic depictions of them."
        ),
        DRUGS: (
            "Content about making, obtaining, selling or misusing controlled substances, or about getting around "
            "drug tests and drug laws."
        ),
        PRIVACY: (
            "Content that exposes or helps to obtain personal information without consent, such as addresses, "
            "accounts or medical records, including stalking, doxxing and unauthorised surveillance."
        ),
        SEXUAL: (
            "Content on sexual coercion or exploitation, explicit sexual material, or cheating on a partner. "
            "Advice that makes such conduct easier also counts."
        ),
        WEAPONS: (
            "Content on building, modifying or trafficking weapons and explosives, on setting fires, or on buying "
            "and selling firearms against the law."
        ),
    },
    trained_on=(FINANCIAL, DISCRIMINATION, VIOLENCE, PRIVACY),
)
