//! Does what the user wants: the SDK on one side, the model on the other. What takes time runs
//! beside and comes back as an [`Outcome`].

use client::{Ack, Client, Event, Events, Http, HttpError, SendError};
use tokio::task::JoinSet;
use wire::client::MessageContent;
use wire::client::event::{GroupPayload, MemberPayload};
use wire::client::http::{ChangeMembers, CreateGroup, HistoryResponse, InboxEntry};
use wire::{ConversationId, ConversationKind};

use super::input::{HELP, Input};
use super::model::Model;

/// Messages of one page of history.
const PAGE: u16 = 50;

pub(super) struct Talk {
    pub(super) model: Model,
    client: Client,
    http: Http,
    tasks: JoinSet<Outcome>,
    /// Openings under way: what is typed meanwhile may be meant for the room that opens.
    opening: usize,
    /// What to open once the inbox is known.
    wanted: Option<String>,
    /// What could not be done, in words.
    failures: Vec<String>,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    Quit,
}

/// What came of something that took time.
pub(super) enum Outcome {
    Inbox(Result<Vec<InboxEntry>, HttpError>),
    Opened(Result<GroupPayload, HttpError>),
    Named(Result<GroupPayload, HttpError>),
    Changed(Result<GroupPayload, HttpError>),
    History(ConversationId, Result<HistoryResponse, HttpError>),
    Members(Result<Vec<MemberPayload>, HttpError>),
    Sent(ConversationId, String, Result<Ack, SendError>),
}

impl Talk {
    /// Connects, asks for the inbox, and then opens what is wanted.
    pub(super) fn start(
        options: client::Options,
        model: Model,
        wanted: Option<String>,
    ) -> (Self, Events) {
        let (client, events) = Client::connect(options);
        let http = client.http().clone();
        let (tasks, failures) = (JoinSet::new(), Vec::new());
        let mut talk = Self { model, client, http, tasks, opening: 0, wanted, failures };
        talk.opening += 1;
        talk.ask(|http| async move { Outcome::Inbox(http.inbox().await) });
        (talk, events)
    }

    fn ask<F: Future<Output = Outcome> + Send + 'static>(&mut self, what: impl FnOnce(Http) -> F) {
        self.tasks.spawn(what(self.http.clone()));
    }

    fn open<F>(&mut self, what: impl FnOnce(Http) -> F)
    where
        F: Future<Output = Result<GroupPayload, HttpError>> + Send + 'static,
    {
        self.opening += 1;
        let asked = what(self.http.clone());
        self.tasks.spawn(async move { Outcome::Opened(asked.await) });
    }

    /// Whether a room is about to open.
    pub(super) fn is_opening(&self) -> bool {
        self.opening > 0
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next outcome; waits for ever when nothing is under way. Cancel safe.
    pub(super) async fn outcome(&mut self) -> Outcome {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(outcome)) => return outcome,
                // A task that panicked has said so.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Ends the session.
    pub(super) async fn close(&self) {
        self.client.close().await;
    }

    /// What could not be done, as an error.
    ///
    /// # Errors
    /// When anything failed.
    pub(super) fn judge(&self) -> anyhow::Result<()> {
        match self.failures.first() {
            Some(first) if self.failures.len() == 1 => anyhow::bail!("{first}"),
            Some(first) => anyhow::bail!("{first} (and {} more)", self.failures.len() - 1),
            None => Ok(()),
        }
    }

    fn failed(&mut self, why: String) {
        self.model.aside(why.clone());
        self.failures.push(why);
    }

    /// Does what a line says.
    pub(super) fn enter(&mut self, line: &str) -> Flow {
        match Input::parse(line) {
            Input::Nothing => {}
            Input::Say(text) => self.say(text),
            Input::New { name, members } => self.open(move |http| async move {
                http.create_group(&CreateGroup { name, members, ..CreateGroup::default() }).await
            }),
            Input::Direct(user) => {
                self.open(move |http| async move { http.open_direct(&user).await })
            }
            Input::Add(add) => self.change(ChangeMembers { add, ..ChangeMembers::default() }),
            Input::Remove(remove) => {
                self.change(ChangeMembers { remove, ..ChangeMembers::default() })
            }
            Input::Members => self.here(|talk, id| {
                talk.ask(move |http| async move { Outcome::Members(http.members(id).await) });
            }),
            Input::History => self.older(),
            Input::Rooms => self.list_rooms(),
            Input::Switch(to) => match self.model.find(&to) {
                Some(n) => self.go(n),
                None => self.failed(format!("no room {to:?}; /rooms lists them")),
            },
            Input::Help => HELP.iter().for_each(|line| self.model.aside((*line).to_owned())),
            Input::Quit => return Flow::Quit,
            Input::Wrong(why) => self.failed(why),
        }
        Flow::On
    }

    fn here(&mut self, what: impl FnOnce(&mut Self, ConversationId)) {
        match self.model.room().map(|room| room.id) {
            Some(id) => what(self, id),
            None => self.failed("no room is open: /switch N, /direct USER or /new NAME".into()),
        }
    }

    fn say(&mut self, body: String) {
        self.here(|talk, id| {
            let name = talk.client.new_message_id();
            let payload = MessageContent::text(body.clone());
            match talk.client.try_queue(id, name.clone(), payload) {
                Ok(pending) => {
                    let message_id = talk.model.sending(id, &name, &body);
                    talk.tasks.spawn(async move { Outcome::Sent(id, message_id, pending.await) });
                }
                Err(error) => talk.failed(format!("not sent: {error}")),
            }
        });
    }

    fn change(&mut self, change: ChangeMembers) {
        self.here(|talk, id| {
            talk.ask(move |http| async move {
                Outcome::Changed(http.change_members(id, &change).await)
            });
        });
    }

    /// One page further back.
    pub(super) fn older(&mut self) {
        self.here(|talk, id| {
            let before = talk.model.room().and_then(|room| room.first_seq());
            if before == Some(1) {
                return talk.model.aside("nothing was said before".into());
            }
            talk.ask(move |http| async move {
                Outcome::History(id, http.history(id, before, None, PAGE).await)
            });
        });
    }

    fn list_rooms(&mut self) {
        if self.model.rooms.is_empty() {
            self.model.aside("you are in no room yet: /new NAME [USER…] or /direct USER".into());
        }
        for n in 0..self.model.rooms.len() {
            let room = &self.model.rooms[n];
            let unread =
                if room.unread > 0 { format!(", {} unread", room.unread) } else { String::new() };
            let line = format!("{}. {}{unread}  {}", n + 1, room.title, room.id);
            self.model.aside(line);
        }
    }

    /// Goes to a room, and asks for what is known of it when that is the first time.
    pub(super) fn go(&mut self, n: usize) {
        self.model.switch(n);
        let room = &mut self.model.rooms[n];
        let id = room.id;
        if !std::mem::replace(&mut room.opened, true) {
            self.ask(move |http| async move { Outcome::Named(http.group(id).await) });
            self.ask(move |http| async move {
                Outcome::History(id, http.history(id, None, None, PAGE).await)
            });
        }
    }

    /// Takes in what the edge says.
    pub(super) fn event(&mut self, event: Event) -> Flow {
        match event {
            Event::Connected(hello) => self.model.connected(&hello.region),
            Event::Disconnected { why } => self.model.disconnected(&why),
            Event::Message { conversation, message } => {
                // Its name and its acting region come with the view of the conversation.
                let is_room = conversation.kind != ConversationKind::User;
                if is_room && self.model.message(conversation, &message, true) {
                    self.ask(
                        move |http| async move { Outcome::Named(http.group(conversation).await) },
                    );
                }
            }
            Event::Joined(joined) => {
                let conversation = joined.conversation_id;
                let known = self.model.rooms.iter().any(|room| room.id == conversation);
                let n = self.model.joined(&joined);
                // Who else is in it comes with its view.
                self.ask(move |http| async move { Outcome::Named(http.group(conversation).await) });
                if !known && !self.is_opening() {
                    let title = self.model.rooms[n].title.clone();
                    self.model.aside(format!("you are in {title} now: /switch {}", n + 1));
                }
            }
            Event::Updated { conversation, update } => self.model.updated(conversation, &update),
            Event::Left { conversation, .. } => self.model.left(conversation),
            Event::Error(error) => self.model.aside(format!("{}: {}", error.code, error.message)),
            Event::Closed { why } => {
                self.failed(why);
                return Flow::Quit;
            }
            _ => {}
        }
        Flow::On
    }

    /// Takes in what came of something.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Inbox(inbox) => {
                self.opening -= 1;
                match inbox {
                    Ok(entries) => self.listed(&entries),
                    Err(error) => self.failed(format!("your inbox cannot be read: {error}")),
                }
                self.open_wanted();
            }
            Outcome::Opened(opened) => {
                self.opening -= 1;
                match opened {
                    Ok(group) => {
                        let n = self.model.upsert(&group);
                        self.go(n);
                    }
                    Err(error) => {
                        self.failed(format!("the conversation cannot be opened: {error}"))
                    }
                }
            }
            Outcome::Named(Ok(group)) => {
                self.model.upsert(&group);
            }
            Outcome::Named(Err(_)) => {}
            // Who came and who went is told by the event.
            Outcome::Changed(Ok(group)) => drop(self.model.upsert(&group)),
            Outcome::Changed(Err(error)) => {
                self.failed(format!("the members were not changed: {error}"))
            }
            Outcome::History(id, Ok(page)) => {
                for message in &page.messages {
                    self.model.message(id, message, false);
                }
            }
            Outcome::History(_, Err(error)) => {
                self.failed(format!("the history cannot be read: {error}"))
            }
            Outcome::Members(Ok(members)) => {
                let names: Vec<_> = members.iter().map(words).collect();
                self.model.aside(crate::text::harmless(&format!(
                    "{} members: {}",
                    names.len(),
                    names.join(", ")
                )));
            }
            Outcome::Members(Err(error)) => {
                self.failed(format!("the members cannot be read: {error}"))
            }
            Outcome::Sent(id, message_id, outcome) => {
                if let Err(error) = &outcome {
                    self.failures.push(format!("not sent: {error}"));
                }
                self.model.sent(id, &message_id, outcome.as_ref().map_err(ToString::to_string));
            }
        }
    }

    fn listed(&mut self, entries: &[InboxEntry]) {
        for entry in entries.iter().filter(|entry| entry.kind != ConversationKind::User) {
            let id = entry.conversation_id;
            self.model.listed(entry);
            // From here on nothing is missed, whatever breaks. A client that has ended says so
            // itself.
            let _ = self.client.follow(id, entry.head_seq);
            if entry.kind == ConversationKind::Direct {
                self.ask(move |http| async move { Outcome::Named(http.group(id).await) });
            }
        }
    }

    fn open_wanted(&mut self) {
        let Some(wanted) = self.wanted.take() else { return self.list_rooms() };
        if let Some(n) = self.model.find(&wanted).filter(|_| wanted.parse::<usize>().is_err()) {
            self.go(n);
        } else if let Some(user) = wanted.strip_prefix('@') {
            let user = user.to_owned();
            self.open(move |http| async move { http.open_direct(&user).await });
        } else if let Ok(id) = wanted.parse::<ConversationId>() {
            self.open(move |http| async move { http.group(id).await });
        } else {
            self.failed(format!(
                "{wanted:?} is no conversation of yours: say cnv_…, @user or the name of a group you are in"
            ));
        }
    }
}

fn words(member: &MemberPayload) -> String {
    match member.role {
        wire::change::Role::Member => member.user_id.clone(),
        wire::change::Role::Admin => format!("{} (admin)", member.user_id),
        wire::change::Role::Owner => format!("{} (owner)", member.user_id),
    }
}
