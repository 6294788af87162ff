//! One line at a time: for pipes, scripts and plain terminals.

use std::time::Duration;

use client::Events;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::model::News;
use super::talk::{Flow, Talk};
use crate::out;

/// After the end of stdin, what is under way gets so long.
const FINISH: Duration = Duration::from_secs(60);
/// After the last line of a pipe, what others say right then is still shown.
const LINGER: Duration = Duration::from_millis(100);

/// Talks until stdin ends or the user leaves.
///
/// # Errors
/// When anything that was asked for could not be done.
pub(super) async fn run(mut talk: Talk, mut events: Events) -> anyhow::Result<()> {
    let mut stdin = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tell(&mut talk)?;
        let flow = tokio::select! {
            Some(event) = events.next() => talk.event(event),
            outcome = talk.outcome() => {
                talk.settle(outcome);
                Flow::On
            }
            line = stdin.next_line(), if !talk.is_opening() => match line? {
                Some(line) => talk.enter(&line),
                None => break,
            },
        };
        if flow == Flow::Quit {
            break;
        }
    }
    let finished = tokio::time::timeout(FINISH, finish(&mut talk, &mut events)).await;
    talk.close().await;
    match finished {
        Ok(told) => told?,
        Err(_) => anyhow::bail!("not everything was done within {} s", FINISH.as_secs()),
    }
    talk.judge()
}

async fn finish(talk: &mut Talk, events: &mut Events) -> anyhow::Result<()> {
    let mut quiet = false;
    loop {
        tell(talk)?;
        if talk.is_idle() && quiet {
            return Ok(());
        }
        tokio::select! {
            outcome = talk.outcome() => talk.settle(outcome),
            Some(event) = events.next() => {
                if talk.event(event) == Flow::Quit {
                    return tell(talk);
                }
            }
            () = tokio::time::sleep(LINGER), if talk.is_idle() => quiet = true,
        }
    }
}

fn tell(talk: &mut Talk) -> anyhow::Result<()> {
    for news in talk.model.news() {
        match news {
            News::Message { room, time, sender, body } => {
                let room = room.map(|room| format!("[{room}] ")).unwrap_or_default();
                out::line(format_args!("{room}{time} <{sender}> {body}"))?;
            }
            News::Delivered { seq, time, body, durability } => {
                out::line(format_args!("{time} <you> {body}  \u{2713} {seq} {durability}"))?;
            }
            News::Aside(text) => out::line(format_args!("* {text}"))?,
        }
    }
    Ok(())
}
