use cargo_metadata::DependencyKind::Normal;

use super::finding::{Finding, none};
use super::tree::members;

/// The crates that each crate may depend on, from the lowest to the highest.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("conversation", &["wire"]),
    ("topology", &["wire"]),
    ("runtime", &[]),
    ("net", &["wire"]),
    ("mesh", &["net", "runtime", "wire"]),
    ("shard-client", &["mesh", "runtime", "topology", "wire"]),
    ("store", &["conversation", "wire"]),
    ("auth", &["wire"]),
    ("node", &["net", "runtime", "topology", "wire"]),
    (
        "edge",
        &[
            "auth",
            "conversation",
            "mesh",
            "net",
            "node",
            "runtime",
            "shard-client",
            "topology",
            "wire",
        ],
    ),
    (
        "core-region",
        &[
            "auth",
            "conversation",
            "mesh",
            "net",
            "node",
            "shard-client",
            "store",
            "topology",
            "wire",
        ],
    ),
    ("client", &["conversation", "net", "wire"]),
    ("test-cluster", &[]),
    ("hearth", EVERYONE),
    ("sim", EVERYONE),
    ("stories", EVERYONE),
];

/// The binary and the stories put the parts together.
const EVERYONE: &[&str] = &[
    "auth",
    "client",
    "conversation",
    "core-region",
    "edge",
    "hearth",
    "mesh",
    "net",
    "node",
    "store",
    "test-cluster",
    "topology",
    "wire",
];

/// Not even to test with: the one would pull in what the other must never see.
const NEVER: &[(&str, &str)] =
    &[("edge", "store"), ("edge", "core-region"), ("core-region", "edge")];

/// One owner for each outside library. Other crates ask the owner for what they need.
const OWNERS: &[(&str, &[&str])] = &[
    ("quinn", &["mesh"]),
    ("foca", &["mesh"]),
    ("fjall", &["store"]),
    ("scylla", &["store"]),
    ("redis", &["regional"]),
    ("hashring", &["topology"]),
    ("jsonwebtoken", &["auth"]),
    // `node` for the admin endpoint of every process; `hearth` for the loopback port by which its
    // own commands steer a mesh that runs on one machine.
    ("axum", &["edge", "node", "hearth"]),
    // The two ends of the WebSocket, and a watcher that shares nothing with either.
    ("tokio-tungstenite", &["edge", "client", "sim"]),
    ("turmoil-net", &["sim"]),
];

/// Dependencies that bring a clock, a socket, a task or randomness into a crate of rules.
const IMPURE: &[&str] = &[
    "async-trait",
    "futures-util",
    "getrandom",
    "mesh",
    "net",
    "quinn",
    "rand",
    "runtime",
    "tokio",
    "tokio-util",
    "uuid",
];

#[test]
fn crates_know_only_whom_they_may() {
    let mut findings = Vec::new();
    for member in members() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
            findings.push(Finding::new(
                member.manifest(),
                format!("`{}` has no line in the table of arrows", member.name),
            ));
            continue;
        };
        for dep in member.deps.iter().filter(|dep| dep.ours && dep.kind == Normal) {
            if !allowed.contains(&dep.name.as_str()) {
                findings.push(Finding::new(
                    member.manifest(),
                    format!("`{}` -> `{}`", member.name, dep.name),
                ));
            }
        }
    }
    none(
        "arrows between our crates point only downwards",
        "move the code to the side that may know both, or pass the value in; a new crate gets its line in ARROWS of tests/tidy/arrows.rs",
        findings,
    );
}

#[test]
fn an_edge_never_sees_a_store_not_even_in_its_tests() {
    let mut findings = Vec::new();
    for member in members() {
        for dep in member
            .deps
            .iter()
            .filter(|dep| NEVER.contains(&(member.name.as_str(), dep.name.as_str())))
        {
            findings.push(Finding::new(
                member.manifest(),
                format!("`{}` -> `{}` ({})", member.name, dep.name, dep.kind),
            ));
        }
    }
    none(
        "edges hold no durable state; edges and cores meet only on the mesh",
        "test an edge against frames on a mesh, and both together in tests/",
        findings,
    );
}

#[test]
fn nobody_links_the_simulator() {
    let mut findings = Vec::new();
    for member in members() {
        for dep in
            member.deps.iter().filter(|dep| ["sim", "hearth-sim"].contains(&dep.name.as_str()))
        {
            findings.push(Finding::new(
                member.manifest(),
                format!("`{}` -> `{}` ({})", member.name, dep.name, dep.kind),
            ));
        }
    }
    none(
        "the simulator replaces functions of libc, so no other crate links it, not even to test with",
        "start the program `hearth-sim`",
        findings,
    );
}

#[test]
fn each_outside_library_has_one_owner() {
    let mut findings = Vec::new();
    for member in members().iter().filter(|member| member.name != "stories") {
        for dep in &member.deps {
            let name = member.name.as_str();
            let Some((_, owners)) = OWNERS.iter().find(|(library, _)| *library == dep.name) else {
                continue;
            };
            if !owners.contains(&name) {
                let what = format!("`{}` belongs to {}", dep.name, owners.join(", "));
                findings.push(Finding::new(member.manifest(), what));
            }
        }
    }
    none(
        "one owner for each outside library",
        "ask the owner's crate for what you need, in words of our own",
        findings,
    );
}

#[test]
fn the_crates_of_rules_have_no_clock_no_chance_and_no_tasks() {
    let mut findings = Vec::new();
    for member in members()
        .iter()
        .filter(|member| ["wire", "conversation", "topology"].contains(&member.name.as_str()))
    {
        for dep in member
            .deps
            .iter()
            .filter(|dep| dep.kind == Normal && IMPURE.contains(&dep.name.as_str()))
        {
            findings.push(Finding::new(member.manifest(), format!("depends on `{}`", dep.name)));
        }
    }
    none(
        "rules are pure",
        "let the driver pass in `now`, random bytes and what it has read",
        findings,
    );
}
