//! Full screen: keys in, frames out.

use client::Events;
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    Event as Key, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};

use super::draw;
use super::talk::{Flow, Talk};

/// Longest line that is edited, characters; the edge's limit is in bytes and checked when it is
/// sent.
const LINE_MAX: usize = 16 * 1024;

/// What the user is typing and looking at.
#[derive(Default)]
pub(super) struct Typing {
    pub(super) line: Vec<char>,
    pub(super) cursor: usize,
    /// Lines scrolled back from the newest.
    pub(super) scroll: usize,
}

/// Talks until the user leaves.
///
/// # Errors
/// When the terminal cannot be used, or the mesh shuts the user out.
pub(super) async fn run(mut talk: Talk, mut events: Events) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let outcome = show(&mut terminal, &mut talk, &mut events).await;
    ratatui::restore();
    talk.close().await;
    outcome
}

async fn show(
    terminal: &mut DefaultTerminal,
    talk: &mut Talk,
    events: &mut Events,
) -> anyhow::Result<()> {
    let mut keys = EventStream::new();
    let mut typing = Typing::default();
    loop {
        // The screen shows the model itself.
        talk.model.news().for_each(drop);
        let mut top = false;
        terminal.draw(|frame| top = draw::draw(frame, &talk.model, &mut typing))?;
        let flow = tokio::select! {
            Some(event) = events.next() => {
                let mut flow = talk.event(event);
                // A burst is drawn once.
                while let Some(event) = events.try_next() {
                    flow = if talk.event(event) == Flow::Quit { Flow::Quit } else { flow };
                }
                if flow == Flow::Quit {
                    return talk.judge();
                }
                flow
            }
            outcome = talk.outcome() => {
                talk.settle(outcome);
                Flow::On
            }
            key = keys.next() => match key {
                Some(Ok(Key::Key(key))) if key.kind != KeyEventKind::Release => typing.press(key, talk, top),
                Some(Ok(_)) => Flow::On,
                Some(Err(error)) => return Err(error.into()),
                None => Flow::Quit,
            },
        };
        if flow == Flow::Quit {
            return Ok(());
        }
    }
}

impl Typing {
    fn press(&mut self, key: KeyEvent, talk: &mut Talk, top: bool) -> Flow {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => return Flow::Quit,
            KeyCode::Char('n') if control => self.turn(talk, 1),
            KeyCode::Char('p') if control => self.turn(talk, -1),
            KeyCode::Char('u') if control => {
                self.line.drain(..self.cursor);
                self.cursor = 0;
            }
            KeyCode::Char('w') if control => self.rub_word(),
            KeyCode::Tab => self.turn(talk, 1),
            KeyCode::BackTab => self.turn(talk, -1),
            KeyCode::Char(c) if !control && self.line.len() < LINE_MAX => {
                self.line.insert(self.cursor, c);
                self.cursor += 1;
            }
            KeyCode::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.line.remove(self.cursor);
            }
            KeyCode::Delete if self.cursor < self.line.len() => {
                self.line.remove(self.cursor);
            }
            KeyCode::Left => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Right => self.cursor = (self.cursor + 1).min(self.line.len()),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.line.len(),
            KeyCode::PageUp => {
                let more =
                    talk.model.room().and_then(|room| room.first_seq()).is_some_and(|seq| seq > 1);
                if top && more {
                    talk.older();
                }
                self.scroll += 10;
            }
            KeyCode::PageDown => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::Enter => {
                let line: String = std::mem::take(&mut self.line).into_iter().collect();
                (self.cursor, self.scroll) = (0, 0);
                return talk.enter(&line);
            }
            _ => {}
        }
        Flow::On
    }

    /// To the next room, or the one before.
    fn turn(&mut self, talk: &mut Talk, by: isize) {
        let rooms = talk.model.rooms.len() as isize;
        if rooms > 0 {
            let now = talk.model.current.map_or(if by > 0 { -1 } else { 0 }, |n| n as isize);
            talk.go((now + by).rem_euclid(rooms) as usize);
            self.scroll = 0;
        }
    }

    fn rub_word(&mut self) {
        let before = &self.line[..self.cursor];
        let end = before.iter().rposition(|c| !c.is_whitespace()).map_or(0, |n| n + 1);
        let start = before[..end].iter().rposition(|c| c.is_whitespace()).map_or(0, |n| n + 1);
        self.line.drain(start..self.cursor);
        self.cursor = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_rubbed_out_with_the_space_behind_it() {
        let mut typing = Typing { line: "say hello  x".chars().collect(), cursor: 11, scroll: 0 };
        typing.rub_word();
        assert_eq!((typing.line.iter().collect::<String>().as_str(), typing.cursor), ("say x", 4));
        typing.rub_word();
        typing.rub_word();
        assert_eq!((typing.line.iter().collect::<String>().as_str(), typing.cursor), ("x", 0));
    }
}
