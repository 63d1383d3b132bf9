"""A second, simpler statement of what each verb does, to hold the register against."""

from dataclasses import dataclass, field

from tests.people import DIGIPOST, EBOKS


@dataclass
class ModelPerson:
    """What a look-up by the person should show, and whose mailbox is chosen."""

    active: bool = False
    reserved: bool = False
    email: str = ""
    mobile: str = ""
    mailboxes: set[str] = field(default_factory=set)
    chosen: str = ""

    def apply(self, verb: str, argument: str) -> bool:
        """Do what the register acknowledged as a change; True if an operator was newly chosen."""
        before = self.chosen
        match verb:
            case "register":
                vars(self).update(vars(ModelPerson(active=True, mobile=argument)))
            case "update_email":
                self.email = argument
            case "update_mobile":
                self.mobile = argument
            case "reserve":
                self.active = self.reserved = True
            case "cancel_reservation":
                self.reserved = False
            case "delete":
                vars(self).update(vars(ModelPerson(active=self.reserved, reserved=self.reserved)))
            case "create":
                self.mailboxes.add(argument)
            case "create_and_choose":
                self.mailboxes.add(argument)
                self.chosen = argument
            case "choose" | "switch":
                self.chosen = argument
            case "delete_mailbox":
                self.mailboxes.discard(argument)
                if self.chosen == argument:
                    self.chosen = ""
            case _:
                raise AssertionError(verb)
        return bool(self.chosen) and self.chosen != before

    def receives_public_mail(self) -> str:
        """The operator whose side should be switched on; empty for none."""
        return self.chosen if self.active and not self.reserved else ""


OPERATORS = (DIGIPOST, EBOKS)
