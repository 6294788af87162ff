//! What a typed line means.

/// What the user wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing was typed.
    Nothing,
    /// Send this.
    Say(String),
    /// A new group.
    New {
        name: String,
        members: Vec<String>,
    },
    /// The direct conversation with a user.
    Direct(String),
    Add(Vec<String>),
    Remove(Vec<String>),
    Members,
    /// Older messages.
    History,
    /// The rooms, numbered.
    Rooms,
    /// To the room of this number, from 1, or of this name.
    Switch(String),
    Help,
    Quit,
    /// Not understood; why.
    Wrong(String),
}

/// Shown by `/help`.
pub(super) const HELP: &[&str] = &[
    "/new NAME [USER…]  make a group and go there",
    "/direct USER       talk to one person",
    "/rooms             list what you are in",
    "/switch N|NAME     go to another room",
    "/add USER…         let people in",
    "/remove USER…      put people out, or yourself",
    "/members           who is here",
    "/history           what was said before",
    "/quit              leave the program",
    "//text             say /text",
];

impl Input {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Self {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.trim().is_empty() {
            return Self::Nothing;
        }
        let Some(command) = line.strip_prefix('/') else { return Self::Say(line.to_owned()) };
        if command.starts_with('/') {
            return Self::Say(command.to_owned());
        }
        let mut words = command.split_whitespace().map(str::to_owned);
        let verb = words.next().unwrap_or_default();
        let rest: Vec<String> = words.collect();
        match (verb.as_str(), rest.as_slice()) {
            ("new", [name, members @ ..]) => Self::New {
                name: name.clone(),
                members: members.iter().map(|user| bare(user)).collect(),
            },
            ("direct", [user]) => Self::Direct(bare(user)),
            ("add", [_, ..]) => Self::Add(rest.iter().map(|user| bare(user)).collect()),
            ("remove", [_, ..]) => Self::Remove(rest.iter().map(|user| bare(user)).collect()),
            ("members", []) => Self::Members,
            ("history", []) => Self::History,
            ("rooms" | "inbox", []) => Self::Rooms,
            ("switch", [to]) => Self::Switch(to.clone()),
            ("help", _) => Self::Help,
            ("quit" | "exit", []) => Self::Quit,
            ("new" | "direct" | "add" | "remove" | "switch", _) => {
                Self::Wrong(format!("/{verb} is used otherwise; /help shows how"))
            }
            _ => Self::Wrong(format!(
                "there is no /{verb}; /help shows what there is, //{verb} says it"
            )),
        }
    }
}

/// `@bob` and `bob` are the same person.
fn bare(user: &str) -> String {
    user.strip_prefix('@').filter(|user| !user.is_empty()).unwrap_or(user).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert_eq!(Input::parse("  \r\n"), Input::Nothing);
        assert_eq!(Input::parse(" hi there \n"), Input::Say(" hi there ".into()));
        assert_eq!(Input::parse("//etc/hosts"), Input::Say("/etc/hosts".into()));
        let new = Input::New { name: "plans".into(), members: vec!["bob".into(), "cid".into()] };
        assert_eq!(Input::parse("/new plans @bob cid"), new);
        assert_eq!(Input::parse("/direct @bob"), Input::Direct("bob".into()));
        assert_eq!(Input::parse("/switch 2"), Input::Switch("2".into()));
        for wrong in ["/", "/nonsense", "/new", "/direct a b", "/switch", "/add"] {
            assert!(matches!(Input::parse(wrong), Input::Wrong(_)), "{wrong}");
        }
    }
}
