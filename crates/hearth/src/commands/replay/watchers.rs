//! A client in every region that sees every conversation.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Event, Events};
use tokio::task::JoinSet;
use wire::{ConversationId, DeviceId};

use super::ledger::Ledger;
use super::plan::Plan;
use crate::local_mesh::access::Access;
use crate::out;

/// A watcher that has not moved for so long asks for what it lacks.
const NUDGE: Duration = Duration::from_secs(10);

pub(super) struct Watchers {
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    clients: Vec<(String, Client)>,
    tasks: JoinSet<()>,
}

/// What a watcher is called in findings.
pub(super) fn name(region: &str) -> String {
    format!("the watcher in {region}")
}

impl Watchers {
    /// Connects one in every region of the tenant's zone and waits until each has a session
    /// somewhere.
    ///
    /// # Errors
    /// When one is shut out or nobody lets it in within the quiet timeout.
    pub(super) async fn start(
        access: &Access,
        plan: &Arc<Plan>,
        ledger: &Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let mut watchers = Self {
            plan: plan.clone(),
            ledger: ledger.clone(),
            clients: Vec::new(),
            tasks: JoinSet::new(),
        };
        for (n, region) in access.regions().iter().enumerate() {
            let device = DeviceId::new(format!("watch-{n}"))?;
            let options = access.options(&plan.observer, Some(&device), region);
            let (client, events) = Client::connect(options);
            for conversation in watchers.conversations() {
                client.follow(conversation, 0)?;
            }
            watchers.tasks.spawn(watch(n, region.clone(), events, ledger.clone()));
            watchers.clients.push((region.clone(), client));
        }
        for (region, client) in &watchers.clients {
            match tokio::time::timeout(ledger.quiet_timeout(), client.ready()).await {
                Ok(ready) => ready?,
                Err(_) => {
                    anyhow::bail!("no edge lets the watcher of {region} in: {:?}", client.state())
                }
            }
        }
        Ok(watchers)
    }

    fn conversations(&self) -> Vec<ConversationId> {
        self.plan.files.iter().filter_map(|file| file.conversation).collect()
    }

    /// Waits until every watcher has seen everything that was acknowledged.
    ///
    /// # Errors
    /// When a watcher was shut out.
    pub(super) async fn catch_up(&self) -> anyhow::Result<()> {
        let mut nudged = Duration::ZERO;
        loop {
            let mut behind = false;
            let still = self.ledger.still();
            let nudge = still >= nudged + NUDGE;
            for (n, (region, client)) in self.clients.iter().enumerate() {
                let missing = self.ledger.missing(n);
                behind |= !missing.is_empty();
                if let (false, client::State::Closed { why }) = (missing.is_empty(), client.state())
                {
                    anyhow::bail!("{} was shut out: {why}", name(region));
                }
                if nudge && !missing.is_empty() {
                    // Not silently: live delivery should have brought it.
                    out::note(format_args!(
                        "{} lacks messages of {} files; it asks for them",
                        name(region),
                        missing.len()
                    ));
                    missing
                        .iter()
                        .filter_map(|file| self.plan.files[*file].conversation)
                        .try_for_each(|c| client.follow(c, 0))?;
                }
            }
            if !behind {
                return Ok(());
            }
            nudged = if nudge { still } else { nudged.min(still) };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all of them.
    pub(super) async fn stop(mut self) {
        for (_, client) in &self.clients {
            client.close().await;
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn watch(watcher: usize, region: String, mut events: Events, ledger: Arc<Ledger>) {
    let name = name(&region);
    while let Some(event) = events.next().await {
        match event {
            Event::Message { conversation, message } => {
                ledger.seen(watcher, &name, conversation, &message)
            }
            Event::Disconnected { why } => {
                ledger.reconnecting();
                ledger.trouble(format!("{name}: {why}"));
            }
            Event::Error(error) => {
                ledger.trouble(format!("{name}: {}: {}", error.code, error.message))
            }
            _ => {}
        }
    }
}
