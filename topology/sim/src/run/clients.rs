//! The clients of a run: they create the conversations, carry the load, and read all histories at
//! the end.

use std::sync::Arc;

use anyhow::bail;
use rand::Rng as _;
use wire::RegionId;

use super::{READ_TIMEOUT, Run, SETTLE_TIMEOUT};
use crate::observe::millis;
use crate::workload::operations::{Edits, Invitations, Reading};
use crate::workload::population::Population;
use crate::workload::setup::Created;
use crate::workload::watcher::Watcher;
use crate::workload::writer::{Pace, Writer};
use crate::workload::{Talk, operations, setup};

impl Run<'_> {
    pub(super) fn create_conversations(
        &mut self,
        population: &Arc<Population>,
    ) -> anyhow::Result<Vec<Talk>> {
        let made = Created::default();
        let wanted = population.plans.len();
        for (region, workload) in self.workloads.clone() {
            for (maker, plan) in setup::planned_in(population, region) {
                let seed = self.rng.random();
                let task = setup::make(
                    workload.clone(),
                    Arc::clone(population),
                    maker,
                    plan,
                    seed,
                    made.clone(),
                );
                self.spawn(region, task);
            }
        }
        let counted = made.clone();
        self.wait_until("the conversations are created", SETTLE_TIMEOUT, move |_| {
            counted.count() >= wanted
        })?;
        match made.so_far() {
            (talks, errors) if errors.is_empty() && !talks.is_empty() => Ok(talks),
            (_, errors) => bail!("the conversations could not be created: {}", errors.join("; ")),
        }
    }

    pub(super) fn start_clients(
        &mut self,
        population: &Population,
        talks: &[Talk],
        invitations: &Invitations,
    ) {
        let load = &self.scenario.load;
        let pace = Pace::of(load, population.residents.len());
        let readers = population.residents.len() as f64;
        for who in &population.residents {
            let (Some(workload), seed) =
                (self.workloads.get(&who.region).cloned(), self.rng.random())
            else {
                continue;
            };
            let writer = Writer::new(workload.clone(), who.clone(), talks, pace, seed);
            self.spawn(who.region, writer.run());
            if load.reads_per_s > 0.0 {
                let reads = operations::read(
                    workload.clone(),
                    who.clone(),
                    talks.to_vec(),
                    load.reads_per_s / readers,
                    seed,
                );
                self.spawn(who.region, reads);
            }
            let guest = population.guests.iter().find(|guest| guest.tenant == who.tenant);
            let groups: Vec<_> =
                talks.iter().filter(|talk| talk.is_group && talk.owner == who.user).collect();
            if let (Some(guest), true) = (guest, load.edits_per_s > 0.0 && !groups.is_empty()) {
                let per_s = load.edits_per_s * groups.len() as f64 / f64::from(load.groups.max(1));
                let groups = groups.iter().map(|talk| talk.id).collect();
                let edits = Edits { per_s, seed, invitations: invitations.clone() };
                self.spawn(
                    who.region,
                    operations::edit(workload, who.clone(), guest.user.clone(), groups, edits),
                );
            }
        }
        for who in population.watchers.iter().chain(&population.guests) {
            let (Some(workload), seed) =
                (self.workloads.get(&who.region).cloned(), self.rng.random())
            else {
                continue;
            };
            let is_guest = population.guests.iter().any(|guest| guest.user == who.user);
            let watcher = if is_guest {
                Watcher::guest(workload, who.clone(), seed)
            } else {
                Watcher::new(workload, who.clone(), talks, seed)
            };
            self.spawn(who.region, watcher.run());
        }
    }

    /// One member per region reads all histories.
    pub(super) fn read_all(
        &mut self,
        population: &Population,
        talks: &[Talk],
    ) -> anyhow::Result<()> {
        let reading = Reading::default();
        let mut wanted = 0;
        for watcher in &population.watchers {
            let Some(workload) = self.workloads.get(&watcher.region).cloned() else { continue };
            for talk in talks.iter().filter(|talk| talk.members.contains(&watcher.user)) {
                let seed = self.rng.random();
                wanted += 1;
                let task = operations::read_all(
                    workload.clone(),
                    watcher.clone(),
                    talk.clone(),
                    seed,
                    reading.clone(),
                );
                self.spawn(watcher.region, task);
            }
        }
        let counted = reading.clone();
        let is_read = self.poll_until(READ_TIMEOUT, move |_| counted.so_far().0 >= wanted)?;
        let (_, errors) = reading.so_far();
        if !is_read || !errors.is_empty() {
            let what = format!("histories could not be read: {}", errors.join("; "));
            self.ledger.broken("unreadable", millis(self.site.now()), what);
        }
        Ok(())
    }

    fn spawn(&mut self, region: RegionId, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(handle) = self.site.clients(region).and_then(|machine| machine.handle()) {
            handle.spawn(task);
        }
    }
}
