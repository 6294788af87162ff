//! The whole process dies, and starts again on the same data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;

use hearth_stories::mesh::Mesh;
use hearth_stories::replay::Replay;
use hearth_stories::{http, irc_logs};
use serde_json::Value;

use crate::text;

/// Author and text of every message of a log, in its order.
fn messages(log: &PathBuf) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(log).unwrap();
    let messages = text.lines().filter_map(|line| {
        let rest = line.strip_prefix('[')?.split_once("] <")?.1;
        let (nick, said) = rest.split_once('>')?;
        let said = said.strip_prefix(' ').unwrap_or(said);
        (!said.is_empty()).then(|| (nick.to_owned(), said.to_owned()))
    });
    messages.collect()
}

/// The replay's own summary, and then, without believing it, the history from every region's edge
/// against the logs.
pub(crate) async fn check_replay(mesh: &Mesh, logs: &[PathBuf], output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("no summary: {stdout}"));
    println!("{summary}");
    for count in ["lost", "duplicated", "reordered", "gaps"] {
        assert_eq!(summary[count], 0, "{count}: {summary}");
    }
    assert_eq!(summary["sent"], summary["acked"], "{summary}");
    assert!(output.status.success(), "{}", output.status);
    let files = summary["files"].as_array().unwrap();
    assert_eq!(files.len(), logs.len());
    for (file, log) in files.iter().zip(logs) {
        let said = messages(log);
        let token = mesh.token(file["observer"].as_str().unwrap());
        for region in mesh.regions() {
            let history =
                http::history(&mesh.edge(&region), &text(&file["conversation_id"]), &token).await;
            let mut by_author: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for message in &history {
                by_author
                    .entry(message["sender"].as_str().unwrap())
                    .or_default()
                    .push(message["body"].as_str().unwrap());
            }
            let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (author, said) in &said {
                wanted.entry(author).or_default().push(said);
            }
            assert_eq!(by_author, wanted, "{} from {region}", log.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_middle_of_a_replay_loses_nothing() {
    let Some(logs) = irc_logs() else { return };
    let logs = &logs[..3];
    let mut mesh = Mesh::up();
    let mut replay = Replay::start(&mesh, logs);
    for percent in [15, 40] {
        replay.until_acked(percent).await;
        mesh.kill_9();
        replay.assert_running();
        mesh.start();
    }
    let output = replay.end();
    check_replay(&mesh, logs, &output).await;
}
