//! People who talk through a deployment while things break: in each region one writer for the group
//! of each home, an SDK client that sends one message after the other, retries and changes edges;
//! and in each region a watcher that sees all groups. In the end everything that was sent,
//! acknowledged and shown, live and from every region's history, goes to the checker that the
//! replay and the simulator use.

mod ledger;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::DevIssuer;
use client::{Client, Event, Events, Http, Read, TokenError, Tokens};
use conversation::invariants::Report;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::client::MessageContent;
use wire::client::http::CreateGroup;
use wire::{ClientMsgId, ConversationId, DeviceId, Durability, TenantId, UserId};

use self::ledger::{Ledger, Wait};
use crate::deployment::{Deployment, REGIONS};
use crate::{eventually, eventually_within};

/// A watcher that has not moved for so long asks for what it lacks, and the story fails: live
/// delivery should have brought it.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// The last acknowledgements may take so long when everything is whole again.
const ACK_TIMEOUT: Duration = Duration::from_secs(60);
const TENANT: &str = "demo";
const WATCHER: &str = "watcher";
const TOKEN_S: u64 = 3_600;

/// A group, and whose home it is.
#[derive(Clone, Debug)]
pub struct Room {
    /// Region, from 1.
    pub home: usize,
    /// Its id.
    pub conversation: ConversationId,
}

impl Room {
    /// As cores write it: `z1-r1-multi-region-0`.
    #[must_use]
    pub fn shard(&self) -> String {
        self.conversation.shard.to_string()
    }
}

/// An acknowledgement.
#[derive(Clone, Debug)]
pub struct Acked {
    /// Home of the group, from 1.
    pub home: usize,
    /// The writer's own region, from 1.
    pub from: usize,
    /// When the writer handed it to its client.
    pub sent: Instant,
    /// When its client had the answer.
    pub acked: Instant,
}

/// People who talk.
pub struct Load {
    /// One with its home in each region.
    pub rooms: Vec<Room>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    writers: JoinSet<()>,
    watchers: JoinSet<()>,
    readers: Vec<Client>,
    histories: Vec<(String, Http)>,
}

/// The rate and kind of the messages.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Writers in each region for each group.
    pub writers: usize,
    /// Between an acknowledgement and the next message.
    pub pause: Duration,
    pub durability: Durability,
}

impl Default for Pace {
    fn default() -> Self {
        Self { writers: 1, pause: Duration::from_millis(100), durability: Durability::MultiRegion }
    }
}

/// The outcome of the load.
#[derive(Debug)]
pub struct Outcome {
    pub report: Report,
    /// All of them.
    pub acks: Vec<Acked>,
    /// Messages that came back, marked, from a region that was lost.
    pub recovered: usize,
    /// When the first of them was ordered, milliseconds since 1970; none: none of them was
    /// acknowledged before.
    pub missing_since_ms: Option<u64>,
    pub reconnects: u64,
}

impl Load {
    /// Makes the groups, and lets everybody talk.
    ///
    /// # Panics
    /// When the deployment does not let them.
    pub async fn start(deployment: &Deployment, pace: Pace) -> Self {
        let people = People::new(deployment);
        let ledger = Arc::new(Ledger::default());
        let mut load = Self {
            rooms: Vec::new(),
            ledger,
            stop: CancellationToken::new(),
            writers: JoinSet::new(),
            watchers: JoinSet::new(),
            readers: Vec::new(),
            histories: Vec::new(),
        };
        load.make_rooms(&people, pace).await;
        load.watch(&people).await;
        for room in &load.rooms {
            for from in 1..=REGIONS.len() {
                for n in 0..pace.writers {
                    let user = writer(room.home, from, n);
                    let options =
                        client::Options { read: Read::Acks, ..people.options(user.as_str(), from) };
                    let lane = u64::try_from((room.home * REGIONS.len() + from) * pace.writers + n)
                        .expect("few lanes");
                    load.ledger
                        .lock()
                        .lanes
                        .insert(lane, Wait { home: room.home, sent_last_acked: None });
                    let writer = Writer {
                        user,
                        lane,
                        room: room.clone(),
                        from,
                        pause: pace.pause,
                        ledger: Arc::clone(&load.ledger),
                        stop: load.stop.clone(),
                    };
                    load.writers.spawn(writer.write(options));
                }
            }
        }
        let begun = Instant::now();
        for home in 1..=REGIONS.len() {
            load.until_acked(home, begun).await;
        }
        load
    }

    async fn make_rooms(&mut self, people: &People, pace: Pace) {
        for home in 1..=REGIONS.len() {
            let writers = (1..=REGIONS.len())
                .flat_map(|from| (0..pace.writers).map(move |n| writer(home, from, n)));
            let request = CreateGroup {
                name: format!("room {home}"),
                members: writers.map(|user| user.to_string()).collect(),
                home_region: Some(REGIONS[home - 1].to_owned()),
                durability: Some(pace.durability),
            };
            let http = Http::new(&people.options(WATCHER, home));
            let made = http.create_group(&request).await.expect("a group");
            if pace.durability == Durability::Region {
                self.ledger.lock().checker.may_fork(made.conversation_id);
            }
            self.rooms.push(Room { home, conversation: made.conversation_id });
        }
    }

    async fn watch(&mut self, people: &People) {
        for (n, region) in REGIONS.iter().enumerate() {
            let options = client::Options {
                device: DeviceId::new(format!("watch-{n}")).ok(),
                ..people.options(WATCHER, n + 1)
            };
            self.histories.push((
                (*region).to_owned(),
                Http::new(&options).at(client::fixed(vec![people.edges(n + 1)[0].clone()])),
            ));
            let (client, events) = Client::connect(options);
            for room in &self.rooms {
                client.follow(room.conversation, 0).expect("it has just begun");
            }
            client.ready().await.expect("an edge lets it in");
            self.watchers.spawn(watch(n, (*region).to_owned(), events, Arc::clone(&self.ledger)));
            self.readers.push(client);
        }
    }

    /// Waits until every writer of the group of this home has sent something after `since` and got
    /// its acknowledgement.
    pub async fn until_acked(&self, home: usize, since: Instant) {
        let what = format!("acknowledgements of all writers in the group of {}", REGIONS[home - 1]);
        eventually(&what, || async {
            self.ledger
                .lock()
                .waits(home)
                .all(|wait| wait.sent_last_acked >= Some(since))
                .then_some(())
        })
        .await;
    }

    /// The longest that a writer in the group of this home has waited for an acknowledgement since:
    /// what was sent before counts from `since` on.
    #[must_use]
    pub fn pause(&self, home: usize, since: Instant) -> Duration {
        let ledger = self.ledger.lock();
        let waited = ledger.acks.iter().filter(|ack| ack.home == home && ack.acked > since);
        waited.map(|ack| ack.acked - ack.sent.max(since)).max().unwrap_or_default()
    }

    /// The number of messages acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> usize {
        self.ledger.lock().acks.len()
    }

    /// Messages of this home's group that were both sent and acknowledged since.
    #[must_use]
    pub fn acked_since(&self, home: usize, since: Instant) -> usize {
        self.ledger.lock().acks.iter().filter(|ack| ack.home == home && ack.sent > since).count()
    }

    /// Ends the talk: every message gets its acknowledgement, every watcher sees everything, every
    /// region's history is read. Everything must be whole again.
    ///
    /// # Panics
    /// When something is still missing after a minute.
    pub async fn end(mut self) -> Outcome {
        self.stop.cancel();
        let writers = async { while self.writers.join_next().await.is_some() {} };
        if tokio::time::timeout(ACK_TIMEOUT, writers).await.is_err() {
            panic!("messages were never acknowledged: {:?}", self.ledger.lock().troubles);
        }
        let conversations: Vec<_> = self.rooms.iter().map(|room| room.conversation).collect();
        let mut observers: Vec<String> = REGIONS.iter().map(|region| watcher_in(region)).collect();
        for (region, http) in &self.histories {
            let observer = format!("the history at {region}");
            for &conversation in &conversations {
                let messages = http
                    .history_after(conversation, 0)
                    .await
                    .unwrap_or_else(|error| panic!("{observer}: {error}"));
                for message in &messages {
                    self.ledger.observe(&observer, conversation, message);
                }
            }
            observers.push(observer);
        }
        // Every watcher must have seen everything in the histories.
        eventually_within(
            DELIVERY_TIMEOUT,
            "everything that there is, at every watcher",
            || async {
                let ledger = self.ledger.lock();
                let seen = |n: usize, of| ledger.seen.get(&(n, of)) >= ledger.heads.get(&of);
                conversations
                    .iter()
                    .all(|&of| (0..REGIONS.len()).all(|n| seen(n, of)))
                    .then_some(())
            },
        )
        .await;
        for reader in &self.readers {
            reader.close().await;
        }
        while self.watchers.join_next().await.is_some() {}
        let mut ledger = self.ledger.lock();
        for &conversation in &conversations {
            for observer in &observers {
                ledger.checker.complete(observer, conversation, 1);
            }
        }
        Outcome {
            report: ledger.checker.report(),
            acks: std::mem::take(&mut ledger.acks),
            recovered: ledger.recovered.len(),
            missing_since_ms: ledger
                .recovered
                .iter()
                .filter_map(|id| ledger.acked_ms.get(id))
                .min()
                .copied(),
            reconnects: ledger.reconnects,
        }
    }
}

impl Outcome {
    /// Says in a line what came of it.
    ///
    /// # Panics
    /// When anything was lost, doubled, reordered, or not acknowledged.
    pub fn must_be_clean(&self) {
        println!("{self}");
        assert!(self.report.is_clean(), "{}", self.report);
        assert_eq!(self.report.sent, self.report.acked, "{}", self.report);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; {} brought back, {} reconnects",
            self.report, self.recovered, self.reconnects
        )
    }
}

fn writer(home: usize, from: usize, n: usize) -> UserId {
    UserId::new(format!("writer-{home}-{from}-{n}")).expect("a short name")
}

fn watcher_in(region: &str) -> String {
    format!("the watcher in {region}")
}

/// The users, and their edges.
struct People {
    issuer: DevIssuer,
    /// From each region.
    edges: Vec<Vec<String>>,
}

impl People {
    fn new(deployment: &Deployment) -> Self {
        let issuer = DevIssuer::load(&deployment.dir().join("keys"))
            .expect("the key that was made for tests");
        let edges = (1..=REGIONS.len()).map(|region| deployment.edges_from(region)).collect();
        Self { issuer, edges }
    }

    fn edges(&self, region: usize) -> &[String] {
        &self.edges[region - 1]
    }

    fn options(&self, user: &str, region: usize) -> client::Options {
        let endpoints = client::fixed(self.edges(region).to_vec());
        client::Options::new(Arc::new(net::OsNet), endpoints, self.tokens(user))
    }

    fn tokens(&self, user: &str) -> Arc<dyn Tokens> {
        let issuer = self.issuer.clone();
        let tenant = TenantId::new(TENANT).expect("a tenant of the world");
        let user = UserId::new(user).expect("a short name");
        Arc::new(move || {
            let token = issuer.issue(&tenant, &user, None, TOKEN_S, now_ms());
            std::future::ready(Ok::<_, TokenError>(token))
        })
    }
}

fn now_ms() -> u64 {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

struct Writer {
    user: UserId,
    lane: u64,
    room: Room,
    from: usize,
    pause: Duration,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
}

impl Writer {
    async fn write(self, options: client::Options) {
        let (client, mut events) = Client::connect(options);
        let listening = async {
            while let Some(event) = events.next().await {
                self.ledger.heard(self.user.as_str(), &event);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.send_all(&client) => {}
            () = listening => {}
        }
        client.close().await;
    }

    async fn send_all(&self, client: &Client) {
        let mut n = 0u64;
        while !self.stop.is_cancelled() {
            n += 1;
            let body = format!("{} says {n}", self.user);
            let id = ClientMsgId::new(format!("{}-{n}", self.user)).expect("a short id");
            let sent = self.ledger.sending(self, &id, &body);
            let payload = MessageContent::text(body);
            let acked = match client.queue(self.room.conversation, id.clone(), payload).await {
                Ok(pending) => pending.await,
                Err(error) => Err(error),
            };
            match acked {
                Ok(ack) => self.ledger.acked(self, &id, sent, &ack),
                Err(error) => return self.ledger.trouble(format!("{}: {error}", self.user)),
            }
            _ = tokio::time::timeout(self.pause, self.stop.cancelled()).await;
        }
    }
}

async fn watch(watcher: usize, region: String, mut events: Events, ledger: Arc<Ledger>) {
    let name = watcher_in(&region);
    while let Some(event) = events.next().await {
        ledger.heard(&name, &event);
        if let Event::Message { conversation, message } = event {
            ledger.observe(&name, conversation, &message);
            let mut ledger = ledger.lock();
            let seen = ledger.seen.entry((watcher, conversation)).or_default();
            *seen = (message.epoch, message.seq).max(*seen);
        }
    }
}
