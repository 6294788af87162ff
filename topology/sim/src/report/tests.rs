use super::text::place;
use super::{html, json};
use crate::outcome::{
    Broken, ClassIncident, Counts, Entry, FaultSpan, Incident, Latency, LinkFacts, Outcome,
    RegionClients, RegionFacts, Second,
};

/// The text of an attacker, or of an unlucky name.
const HOSTILE: &str = "</title></script><script>alert(1)</script><img src=x onerror='a()'>\" onload=\"a() & \u{202e}\0";

fn region(name: &str, lat: f64, lon: f64) -> RegionFacts {
    RegionFacts { name: name.into(), lat, lon, zones: vec!["global".into()], cores: 3, edges: 2 }
}

fn link(a: &str, b: &str, delay_ms: f64) -> LinkFacts {
    LinkFacts { a: a.into(), b: b.into(), delay_ms }
}

fn entry(at_ms: u64, who: &str, what: &str) -> Entry {
    Entry { at_ms, who: who.into(), what: what.into() }
}

fn class(durability: &str, figures: [u64; 5]) -> ClassIncident {
    let [pause_ms, backlog, at_risk, rpo_ms, rto_ms] = figures;
    let durability = durability.into();
    ClassIncident {
        durability,
        pause_ms: Some(pause_ms),
        backlog,
        at_risk,
        rpo_ms,
        rto_ms: Some(rto_ms),
    }
}

fn incident() -> Incident {
    Incident {
        region: "eu-west".into(),
        kind: "lost".into(),
        from_ms: 10_007,
        to_ms: Some(25_018),
        detection_ms: Some(1_241),
        takeover_ms: Some(873),
        classes: vec![
            class("multi-region", [3_421, 18, 0, 0, 3_187]),
            class("region", [15_823, 46, 3, 212, 15_344]),
        ],
    }
}

fn second(at_s: u64) -> Second {
    let is_lost = (10..14).contains(&at_s);
    let (acked, p50_ms, max_ms) = if is_lost { (0, 0.0, 0.0) } else { (12, 61.0, 4_000.0) };
    Second { at_ms: at_s * 1_000, sent: 12, acked, p50_ms, max_ms, waiting: 5 }
}

fn rehearsed() -> Outcome {
    let fault = |what: &str, regions: &[&str], is_link| FaultSpan {
        what: what.into(),
        regions: regions.iter().map(|name| (*name).into()).collect(),
        is_link,
        from_ms: 10_007,
        to_ms: 25_018,
    };
    let wait = |phase: &str, count| Latency {
        phase: phase.into(),
        count,
        p50_ms: 61.0,
        p99_ms: 182.0,
        max_ms: 190.5,
    };
    Outcome {
        scenario: "region-loss".into(),
        about: "A region dies under load.".into(),
        world: "three-regions".into(),
        seed: 42,
        hash: "9f3c21e07ab45d18".into(),
        virtual_ms: 48_213,
        cpu_ms: 907,
        held: true,
        regions: vec![
            region("eu-west", 53.35, -6.26),
            region("us-east", 39.04, -77.49),
            region("ap-south", 19.1, 72.9),
        ],
        links: vec![link("eu-west", "us-east", 34.0), link("us-east", "ap-south", 94.5)],
        faults: vec![
            fault("region eu-west is lost", &["eu-west"], false),
            fault("us-east - ap-south is cut", &["us-east", "ap-south"], true),
            fault("all nodes are restarted", &[], false),
        ],
        incidents: vec![incident()],
        clients: vec![RegionClients {
            region: "us-east".into(),
            latency: vec![wait("before", 118), wait("during", 0)],
            longest_pause_ms: 15_820,
            reconnects: 1,
        }],
        seconds: (0..40).map(second).collect(),
        counts: Counts { sent: 480, acked: 479, packets: 1_204_733, ..Counts::default() },
        timeline: (0..60).map(|at| entry(at * 500, "r1/core/1", &format!("step {at}."))).collect(),
        ..Outcome::default()
    }
}

fn broken() -> Outcome {
    let found = |invariant: &str, at_ms| Broken {
        invariant: invariant.into(),
        at_ms,
        what: format!("{invariant} m-0193"),
    };
    Outcome {
        held: false,
        broken: vec![found("lost", 20_250), found("gap", 30_000)],
        ..rehearsed()
    }
}

/// As odd as numbers and names can be.
fn odd() -> Outcome {
    let mut odd = broken();
    let odd_numbers =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX, f64::MIN_POSITIVE];
    let name = |at: usize| format!("{}-{at}", "a-region-with-a-long-name".repeat(4));
    odd.regions = (0..12)
        .map(|at| region(&name(at), odd_numbers[at % 6], odd_numbers[(at + 1) % 6]))
        .collect();
    odd.links =
        (0..66).map(|at| link(&name(at % 12), &name(at % 11), odd_numbers[at % 6])).collect();
    odd.seconds = (0..4_000).map(second).collect();
    for (at, second) in odd.seconds.iter_mut().enumerate() {
        (second.p50_ms, second.max_ms) = (odd_numbers[at % 6], odd_numbers[(at + 2) % 6]);
        second.waiting = if at == 7 { u64::MAX } else { second.waiting };
    }
    for fault in &mut odd.faults {
        (fault.from_ms, fault.to_ms) = (u64::MAX, 0);
    }
    let never = Incident {
        detection_ms: None,
        takeover_ms: None,
        to_ms: None,
        classes: Vec::new(),
        ..incident()
    };
    odd.incidents = vec![
        Incident { detection_ms: Some(u64::MAX), takeover_ms: Some(u64::MAX), ..incident() },
        never,
    ];
    odd.clients[0].latency[0] =
        Latency { p50_ms: f64::NAN, p99_ms: f64::INFINITY, ..odd.clients[0].latency[0].clone() };
    odd.virtual_ms = u64::MAX;
    odd.counts.packets = u64::MAX;
    odd.timeline = (0..30_000).map(|at| entry(at, "ann", "sends")).collect();
    odd
}

/// Every text that a run can bring is hostile.
fn hostile() -> Outcome {
    let mut outcome = broken();
    let texts = [&mut outcome.scenario, &mut outcome.about, &mut outcome.world, &mut outcome.hash];
    texts.into_iter().for_each(|text| *text = HOSTILE.into());
    for region in &mut outcome.regions {
        (region.name, region.zones) = (HOSTILE.into(), vec![HOSTILE.into()]);
    }
    outcome.links = vec![link(HOSTILE, HOSTILE, 1.0)];
    for fault in &mut outcome.faults {
        fault.what = HOSTILE.into();
        fault.regions.iter_mut().for_each(|name| *name = HOSTILE.into());
    }
    for incident in &mut outcome.incidents {
        (incident.region, incident.kind) = (HOSTILE.into(), HOSTILE.into());
        incident.classes.iter_mut().for_each(|class| class.durability = HOSTILE.into());
    }
    for clients in &mut outcome.clients {
        clients.region = HOSTILE.into();
        clients.latency.iter_mut().for_each(|latency| latency.phase = HOSTILE.into());
    }
    outcome
        .broken
        .iter_mut()
        .for_each(|broken| (broken.invariant, broken.what) = (HOSTILE.into(), HOSTILE.into()));
    outcome
        .timeline
        .iter_mut()
        .for_each(|entry| (entry.who, entry.what) = (HOSTILE.into(), HOSTILE.into()));
    outcome
}

fn samples() -> [(&'static str, Outcome); 5] {
    let empty = Outcome::default();
    [
        ("empty", empty),
        ("rehearsed", rehearsed()),
        ("broken", broken()),
        ("odd", odd()),
        ("hostile", hostile()),
    ]
}

/// The page without style and script, which are ours and hold `<` and `http`-like words at will.
fn markup(page: &str) -> String {
    let mut rest = page;
    let mut kept = String::new();
    for element in ["style", "script"] {
        let (before, after) = rest.split_once(&format!("<{element}>")).expect("the page has one");
        kept.push_str(before);
        rest = after.split_once(&format!("</{element}>")).expect("it is closed").1;
    }
    kept + rest
}

/// The first thing that is wrong with the nesting of tags or the quotes of attributes.
fn flaw(page: &str) -> Option<String> {
    const VOID: [&str; 4] = ["!doctype", "meta", "br", "input"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some((text, after)) = rest.split_once('<') {
        if text.contains('>') {
            return Some(format!("a loose > in {text}"));
        }
        let (tag, after) = after.split_once('>')?;
        rest = after;
        let name = tag.split([' ', '/', '\n']).find(|word| !word.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            let last = open.pop();
            if last != Some(name) {
                return Some(format!("</{name}> closes {last:?}"));
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        if tag.matches('"').count() % 2 != 0 || tag.contains('<') {
            return Some(format!("an odd quote in <{tag}>"));
        }
    }
    open.pop().map(|name| format!("<{name}> stays open"))
}

#[test]
fn every_page_is_well_formed() {
    for (name, outcome) in samples() {
        assert_eq!(flaw(&markup(&html(&outcome))), None, "of {name}");
    }
}

#[test]
fn the_check_for_well_formed_pages_finds_flaws() {
    assert_eq!(flaw("<p>a<br>b <rect x=\"1\"/></p>"), None);
    for page in ["<p>", "</p>", "<p><b></p></b>", "<p class=\"a>b</p>", "<p>a > b</p>"] {
        assert!(flaw(page).is_some(), "in {page}");
    }
}

#[test]
fn text_from_a_run_never_becomes_markup() {
    let page = markup(&html(&hostile()));
    for start in ["<script", "</script", "<img", "onerror='", "onload=\"", "\u{202e}", "\0"] {
        assert!(!page.contains(start), "{start:?} came through");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "the text is shown as it is");
}

#[test]
fn an_outcome_without_anything_is_a_page_all_the_same() {
    let page = html(&Outcome::default());
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for said in [
        "BROKEN",
        "No invariant is named.",
        "No region was lost",
        "none in this run",
        "The timeline is empty",
    ] {
        assert!(page.contains(said), "{said:?} is missing");
    }
}

#[test]
fn a_page_loads_nothing_from_anywhere() {
    for (name, outcome) in samples() {
        let page = html(&outcome);
        let page = page.replace(HOSTILE, "");
        for loads in [
            "http://", "https://", "@import", "url(", "<link", "<img", "<iframe", "fetch(",
            "import(",
        ] {
            assert!(!page.contains(loads), "{loads} in {name}");
        }
        assert!(page.contains("default-src 'none'"), "and may not, in {name}");
    }
}

#[test]
fn every_figure_of_an_incident_is_shown_to_the_millisecond() {
    let page = html(&rehearsed());
    let (_, after) = page.split_once("<table class=\"incidents\">").expect("there is the table");
    let (table, _) = after.split_once("</table>").expect("it ends");
    let figures = [
        "10.007 s",
        "15.011 s",
        "1.241 s",
        "873 ms",
        "3.421 s",
        ">18<",
        "0 messages",
        "0 ms",
        "3.187 s",
    ];
    for figure in
        figures.into_iter().chain(["15.823 s", ">46<", "3 messages", "212 ms", "15.344 s"])
    {
        assert!(table.contains(figure), "{figure} is missing in {table}");
    }
}

#[test]
fn what_never_came_is_said_and_not_left_blank() {
    let mut outcome = rehearsed();
    let class = ClassIncident { pause_ms: None, rto_ms: None, ..class("multi-region", [0; 5]) };
    let never = Incident {
        to_ms: None,
        detection_ms: None,
        takeover_ms: None,
        classes: vec![class],
        ..incident()
    };
    outcome.incidents = vec![never];
    let page = html(&outcome);
    assert_eq!(page.matches("<strong class=\"never\">never</strong>").count(), 3);
    assert!(page.contains("did not return") && page.contains("<td class=\"num\">–</td>"));
}

#[test]
fn a_broken_run_says_what_broke_first_and_what_happened_just_before() {
    let page = html(&broken());
    assert!(page.contains("First broken: lost, at 20.250 s; 1 later finding below."));
    assert!(page.contains("broken: lost</text>"), "the time axis shows the moment");
    let (_, after) = page.split_once("Just before").expect("there is the part");
    let (before, _) = after.split_once("</table>").expect("it holds a table");
    assert!(before.contains("step 40.") && before.contains("step 26."), "the last fifteen");
    assert!(!before.contains("step 41.") && !before.contains("step 25."), "and no others");
}

#[test]
fn the_command_shows_the_same_run_again() {
    let mut outcome = rehearsed();
    assert!(html(&outcome).contains("<code>hearth sim run region-loss --seed 42</code>"));
    outcome.scenario = "drawn-42".into();
    assert!(html(&outcome).contains("<code>hearth sim replay 42</code>"));
    outcome.scenario = "my run's".into();
    assert!(html(&outcome).contains(&format!(
        "<code>hearth sim run {} --seed 42</code>",
        r"&#39;my run&#39;\&#39;&#39;s&#39;"
    )));
}

#[test]
fn no_drawing_has_a_number_that_is_none() {
    assert_eq!([f64::NAN, f64::INFINITY, -0.01].map(place), ["0", "0", "0"]);
    for (name, outcome) in samples() {
        let page = markup(&html(&outcome));
        for number in ["NaN", "inf\"", "inf ", "=\"-inf"] {
            assert!(!page.contains(number), "{number:?} in {name}");
        }
    }
}

#[test]
fn a_long_run_stays_a_page_that_opens() {
    let page = html(&odd());
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(page.contains("The last 1\u{202f}000 of 30\u{202f}000 entries"));
}

#[test]
fn the_map_marks_what_the_faults_concerned_and_nothing_else() {
    let page = html(&rehearsed());
    assert_eq!(
        page.matches("class=\"region is-hit\"").count(),
        1,
        "a cut link does not concern its ends"
    );
    assert_eq!(page.matches("class=\"link is-hit\"").count(), 1);
    assert!(page.contains("data-spans=\"10007-25018\""), "and says when");
}

#[test]
fn json_is_one_line_with_every_field_in_the_order_of_the_outcome() {
    let mut outcome = rehearsed();
    outcome.seconds[0].p50_ms = f64::NAN;
    let line = json(&outcome);
    assert!(!line.contains('\n') && line.starts_with("{\"scenario\":\"region-loss\",\"about\":"));
    let value: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!(value["incidents"][0]["classes"][1]["rto_ms"], 15_344);
    assert!(value["seconds"][0]["p50_ms"].is_null(), "not a number is null");
}
