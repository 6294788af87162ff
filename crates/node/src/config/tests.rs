use std::net::SocketAddr;

use super::*;

crate::section! {
    /// The head.
    struct Head {
        /// Who it is.
        name: String = must(r#""one""#),
        /// How many.
        count: u16 = or("3"),
    }
}

crate::section! {
    /// The doors,
    /// all of them.
    struct Doors {
        /// Where.
        bind: SocketAddr = or(r#""127.0.0.1:1""#),
        /// What else.
        also: Option<Vec<String>> = may(r#"["a"]"#),
    }
}

type Whole = (Head, Doors, Vec<(usize, Head)>);

fn whole(text: &str) -> Result<Whole, String> {
    let read = |file: &mut File<'_>| {
        let (head, doors, more) = (file.top(), file.section("doors"), file.sections("more"));
        Some((head?, doors?, more))
    };
    parse(text, read).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn what_is_left_out_has_its_default() {
    let (head, doors, more) = whole("name = \"x\"").unwrap();
    assert_eq!((head.name.as_str(), head.count), ("x", 3));
    assert_eq!((doors.bind.port(), doors.also), (1, None));
    assert!(more.is_empty());
}

#[test]
fn what_is_given_counts() {
    let text = "name = \"x\"\ncount = 7\n[doors]\nbind = \"[::1]:5\"\nalso = [\"b\"]\n[[more]]\nname = \"y\"\n";
    let (head, doors, more) = whole(text).unwrap();
    assert_eq!((head.count, doors.bind.port()), (7, 5));
    assert_eq!(doors.also.unwrap(), ["b"]);
    assert_eq!((more[0].0, more[0].1.name.as_str()), (6, "y"));
}

#[test]
fn every_mistake_is_told_with_its_line_and_the_cure() {
    let told = whole(
        "count = \"many\"\nnmae = 1\n[doors]\nbind = \"here\"\ncolour = \"red\"\n[[more]]\ncount = 1\n[dors]\n",
    );
    let told = told.unwrap_err();
    let lines: Vec<&str> = told.lines().collect();
    for (line, parts) in [
        (1, ["line 1: \"count\": invalid type", "write for example count = 3 (How many)"]),
        (0, ["line 1: the file lacks \"name\"", "write for example name = \"one\""]),
        (2, ["line 2: nothing is called \"nmae\"", "did you mean \"name\"?"]),
        (3, ["line 4: \"bind\": invalid socket address", "bind = \"127.0.0.1:1\""]),
        (4, ["line 5: [doors] has no field \"colour\"", "the fields here are bind, also"]),
        (5, ["line 6: [more] lacks \"name\"", "write for example"]),
        (6, ["line 8: nothing is called \"dors\"", "did you mean \"doors\"?"]),
    ] {
        assert!(parts.iter().all(|part| lines[line].contains(part)), "{line}: {told}");
    }
    assert_eq!(lines.len(), 7, "{told}");
}

#[test]
fn what_is_no_toml_and_what_is_no_section_are_told() {
    assert!(whole("name = ").unwrap_err().contains("line 1: not TOML"));
    assert!(whole("name = \"x\"\ndoors = 3").unwrap_err().contains("write a line [doors]"));
    assert!(whole("name = \"x\"\nmore = 3").unwrap_err().contains("write a line [[more]]"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error =
        read(Path::new("/nowhere/core.toml"), |file| file.top::<Head>()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nowhere/core.toml: "), "{error}");
}

#[test]
fn mistakes_are_one_line_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "count = -1\n").unwrap();
    let error = read(&path, |file| file.top::<Head>()).unwrap_err().to_string();
    assert!(error.contains("node.toml, line 1: ") && error.contains("; also line 1: "), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn the_example_says_everything_and_is_itself_a_config() {
    let text = example("A file.", &[Shape::of::<Head>(""), Shape::of::<Doors>("[doors]")]);
    assert!(text.starts_with("# A file.\n#\n# A line"), "{text}");
    assert!(
        text.contains("\n\n# Who it is.\nname = \"one\"\n\n# How many.\n#count = 3\n"),
        "{text}"
    );
    assert!(text.contains("# The doors,\n# all of them.\n[doors]\n# Where.\n#bind = "), "{text}");
    whole(&text).unwrap();
    let uncommented: String =
        text.lines().map(|line| line.strip_prefix('#').unwrap_or(line).to_owned() + "\n").collect();
    let uncommented: String = uncommented
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|l| l.to_owned() + "\n")
        .collect();
    let (_, doors, _) = whole(&uncommented).unwrap();
    assert_eq!(
        doors.also.unwrap(),
        ["a"],
        "an optional field's example is a value of it: {uncommented}"
    );
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    assert_eq!(
        beside(Path::new("/etc/hearth/core.toml"), Path::new("ca.pem")),
        Path::new("/etc/hearth/ca.pem")
    );
    assert_eq!(
        beside(Path::new("/etc/hearth/core.toml"), Path::new("/ca.pem")),
        Path::new("/ca.pem")
    );
    assert_eq!(beside(Path::new("core.toml"), Path::new("ca.pem")), Path::new("ca.pem"));
}
