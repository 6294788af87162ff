//! Clients that say the lines: one for each author, at the edges of one region or another.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, Read, SendError};
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use wire::client::MessageContent;

use super::ledger::Ledger;
use super::plan::Plan;
use crate::local_mesh::access::Access;

/// Most authors that are connected at once: descriptors are shared with the mesh's own limits.
const CONNECTED_MAX: usize = 256;
/// An author connects so long before their first line is due.
const EARLY: Duration = Duration::from_secs(2);

/// Says everything; returns when all of it is acknowledged or refused for good.
///
/// # Errors
/// When a client is shut out of the mesh.
pub(super) async fn play(
    access: &Access,
    plan: &Arc<Plan>,
    ledger: &Arc<Ledger>,
) -> anyhow::Result<()> {
    let seats = Arc::new(Semaphore::new(CONNECTED_MAX));
    let mut playing = JoinSet::new();
    let regions = access.regions();
    for (n, author) in plan.authors.iter().enumerate() {
        let seat = seats.clone();
        let region = &regions[n % regions.len()];
        let options =
            client::Options { read: Read::Acks, ..access.options(&author.user, None, region) };
        sleep_until(ledger.began() + author.due.saturating_sub(EARLY)).await;
        let seat = seat.acquire_owned().await?;
        let (plan, ledger) = (plan.clone(), ledger.clone());
        playing.spawn(async move {
            let outcome = author_plays(options, &plan, &ledger, n).await;
            drop(seat);
            outcome
        });
        while let Some(done) = playing.try_join_next() {
            done??;
        }
    }
    while let Some(done) = playing.join_next().await {
        done??;
    }
    Ok(())
}

async fn author_plays(
    options: client::Options,
    plan: &Plan,
    ledger: &Ledger,
    n: usize,
) -> anyhow::Result<()> {
    let author = &plan.authors[n];
    let (client, mut events) = Client::connect(options);
    let lanes = author.lanes.iter().enumerate().map(|(lane, sends)| {
        let lane = (n as u64) << 32 | lane as u64;
        lane_plays(&client, plan, ledger, lane, sends)
    });
    let listening = async {
        while let Some(event) = events.next().await {
            if let Event::Disconnected { why } = event {
                ledger.reconnecting();
                ledger.trouble(format!("{}: {why}", author.user));
            }
        }
        // The client has ended: its sends say why.
        std::future::pending().await
    };
    let outcome = tokio::select! {
        outcome = try_join_all(lanes) => outcome.map(|_| ()),
        never = listening => never,
    };
    client.close().await;
    outcome
}

/// One author's lines in one group, in order, each acknowledged before the next.
async fn lane_plays(
    client: &Client,
    plan: &Plan,
    ledger: &Ledger,
    lane: u64,
    sends: &[usize],
) -> anyhow::Result<()> {
    for &n in sends {
        let send = &plan.sends[n];
        sleep_until(ledger.began() + send.due).await;
        ledger.sending(n, lane);
        let payload = MessageContent::text(send.text.clone());
        let acked = match client.queue(plan.conversation(send), send.id.clone(), payload).await {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        match acked {
            Ok(ack) => ledger.acked(n, &ack),
            Err(SendError::Closed(why)) => anyhow::bail!("{} was shut out: {why}", send.author),
            Err(error) => ledger.refused(n, &error),
        }
    }
    Ok(())
}
