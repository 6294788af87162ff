//! One frame of the screen: rooms on the left, the talk in the middle, members on the right, the
//! line below.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use wire::change::Role;

use super::model::{Delivery, Link, Model, Room, Shown};
use super::screen::Typing;
use crate::text::harmless;

const ROOMS_WIDTH: u16 = 22;
const MEMBERS_WIDTH: u16 = 20;
/// Narrower screens show no members.
const WIDE: u16 = 90;
/// Narrower screens show no rooms.
const NARROW: u16 = 50;

/// Draws it. Says whether the oldest line that is here is on the screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, typing: &mut Typing) -> bool {
    let area = frame.area();
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(3)])
            .areas(area);
    let rooms = if area.width >= NARROW { ROOMS_WIDTH } else { 0 };
    let members = if area.width >= WIDE { MEMBERS_WIDTH } else { 0 };
    let [left, middle, right] = Layout::horizontal([
        Constraint::Length(rooms),
        Constraint::Min(10),
        Constraint::Length(members),
    ])
    .areas(body);
    draw_head(frame, head, model);
    if rooms > 0 {
        draw_rooms(frame, left, model);
    }
    if members > 0 {
        draw_members(frame, right, model);
    }
    let top = draw_talk(frame, middle, model, typing);
    draw_line(frame, foot, typing);
    top
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let who = format!(" {} of {} ", harmless(model.me.as_str()), model.tenant);
    let (state, color) = match &model.link {
        Link::Connecting => ("connecting…".to_owned(), Color::Yellow),
        Link::Up { region } => (format!("● {region}"), Color::Green),
        Link::Down { why } => (format!("○ reconnecting: {why}"), Color::Red),
    };
    let mut spans = vec![
        Span::styled(who, Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(state, Style::new().fg(color)),
    ];
    if let Some(room) = model.room().filter(|room| !room.acting_region.is_empty()) {
        let facts =
            format!("   {} is served in {}, {}", room.title, room.acting_region, room.durability);
        spans.push(Span::styled(facts, dim()));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
}

fn draw_rooms(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let line = |(n, room): (usize, &Room)| {
        let unread = if room.unread > 0 { format!(" ({})", room.unread) } else { String::new() };
        let style = match (model.current == Some(n), room.unread > 0) {
            (true, _) => Style::new().add_modifier(Modifier::REVERSED),
            (false, true) => Style::new().add_modifier(Modifier::BOLD),
            (false, false) => Style::new(),
        };
        Line::styled(format!("{} {}{unread}", n + 1, room.title), style)
    };
    let lines: Vec<_> = model.rooms.iter().enumerate().map(line).collect();
    let height = usize::from(area.height.saturating_sub(1));
    let skip = model.current.map_or(0, |n| (n + 1).saturating_sub(height));
    let shown: Vec<_> = lines.into_iter().skip(skip).collect();
    frame.render_widget(
        Paragraph::new(shown).block(Block::new().borders(Borders::RIGHT).title("rooms")),
        area,
    );
}

fn draw_members(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Some(room) = model.room() else { return };
    let line = |member: &wire::client::event::MemberPayload| {
        let mark = match member.role {
            Role::Owner => "★ ",
            Role::Admin => "☆ ",
            Role::Member => "  ",
        };
        let name = harmless(&member.user_id);
        Line::from(vec![
            Span::raw(mark),
            Span::styled(name.clone(), Style::new().fg(color_of(&name))),
        ])
    };
    let lines: Vec<_> = room.members.values().map(line).collect();
    let title = format!("{} members", lines.len());
    frame.render_widget(
        Paragraph::new(lines).block(Block::new().borders(Borders::LEFT).title(title)),
        area,
    );
}

fn draw_talk(frame: &mut Frame<'_>, area: Rect, model: &Model, typing: &mut Typing) -> bool {
    let width = usize::from(area.width.saturating_sub(1)).max(1);
    let lines = match model.room() {
        Some(room) => talk(room, width),
        None => model.asides.iter().flat_map(|text| aside(text, width)).collect(),
    };
    let height = usize::from(area.height);
    let most = lines.len().saturating_sub(height);
    typing.scroll = typing.scroll.min(most);
    let skip = most - typing.scroll;
    let shown: Vec<_> = lines.into_iter().skip(skip).take(height).collect();
    frame.render_widget(Paragraph::new(shown), area);
    skip == 0
}

fn draw_line(frame: &mut Frame<'_>, area: Rect, typing: &Typing) {
    let block = Block::new()
        .borders(Borders::ALL)
        .title("/help   Tab: next room   PgUp: older   Ctrl-C: leave");
    let inner = block.inner(area);
    // Columns before the cursor; the part of the line that fits ends there.
    let before: String = typing.line[..typing.cursor].iter().collect();
    let columns = Span::raw(before.as_str()).width();
    let room = usize::from(inner.width.saturating_sub(1));
    let text: String = typing.line.iter().collect();
    let scroll = u16::try_from(columns.saturating_sub(room)).unwrap_or(u16::MAX);
    frame.render_widget(Paragraph::new(text).scroll((0, scroll)).block(block), area);
    let column = u16::try_from(columns.min(room)).unwrap_or(0);
    frame.set_cursor_position(Position::new(inner.x + column, inner.y));
}

/// Everything that was said in a room, wrapped.
fn talk(room: &Room, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut asides = room.asides.iter().peekable();
    let first = room.first_seq().unwrap_or(u64::MAX);
    while let Some((_, text)) = asides.next_if(|(after, _)| *after < first) {
        lines.extend(aside(text, width));
    }
    for (seq, message) in &room.messages {
        lines.extend(said(message, width));
        while let Some((_, text)) = asides.next_if(|(after, _)| after <= seq) {
            lines.extend(aside(text, width));
        }
    }
    for pending in &room.pending {
        let (mark, color) = match &pending.state {
            Delivery::Sending => ("  sending…".to_owned(), Color::Yellow),
            Delivery::Durable { durability, .. } => (format!("  ✓ {durability}"), Color::Green),
            Delivery::Failed(why) => (format!("  ✗ {why}"), Color::Red),
        };
        lines.extend(entry("     ", "you", &pending.body, Some((mark, color)), width));
    }
    lines
}

fn said(message: &Shown, width: usize) -> Vec<Line<'static>> {
    let mark = message.delivery.map(|durability| (format!("  ✓ {durability}"), Color::Green));
    entry(&message.time, &message.sender, &message.body, mark, width)
}

/// `12:30 name text`, further lines under the text, the mark behind the last.
fn entry(
    time: &str,
    who: &str,
    body: &str,
    mark: Option<(String, Color)>,
    width: usize,
) -> Vec<Line<'static>> {
    let indent = Span::raw(format!("{time} {who} ")).width().min(width / 2);
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (n, part) in wrap(body, width.saturating_sub(indent).max(1)).into_iter().enumerate() {
        let lead = if n == 0 {
            vec![
                Span::styled(format!("{time} "), dim()),
                Span::styled(
                    format!("{who} "),
                    Style::new().fg(color_of(who)).add_modifier(Modifier::BOLD),
                ),
            ]
        } else {
            vec![Span::raw(" ".repeat(indent))]
        };
        lines.push(Line::from([lead, vec![Span::raw(part)]].concat()));
    }
    if let (Some((text, color)), Some(last)) = (mark, lines.last_mut()) {
        last.push_span(Span::styled(text, Style::new().fg(color).add_modifier(Modifier::DIM)));
    }
    lines
}

fn aside(text: &str, width: usize) -> Vec<Line<'static>> {
    wrap(&format!("* {text}"), width).into_iter().map(|line| Line::styled(line, dim())).collect()
}

/// Breaks at spaces, and inside words that are wider than a line. At least one line.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let wide = Span::raw(word).width();
        if used > 0 && used + Span::raw(word.trim_end()).width() > width {
            lines.push(String::new());
            used = 0;
        }
        if wide <= width || used + wide <= width {
            lines.last_mut().expect("there is always one").push_str(word);
            used += wide;
            continue;
        }
        for c in word.chars() {
            let columns = Span::raw(c.to_string()).width();
            if used + columns > width && used > 0 {
                lines.push(String::new());
                used = 0;
            }
            lines.last_mut().expect("there is always one").push(c);
            used += columns;
        }
    }
    lines
}

/// Everyone has a colour.
fn color_of(name: &str) -> Color {
    const COLORS: [Color; 6] = [
        Color::Cyan,
        Color::Magenta,
        Color::Blue,
        Color::LightGreen,
        Color::LightRed,
        Color::LightYellow,
    ];
    let sum =
        name.bytes().fold(7usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    COLORS[sum % COLORS.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use time::UtcOffset;
    use wire::{ClientMsgId, ConversationId, TenantId, UserId};

    use super::*;

    #[test]
    fn lines_break_at_spaces_and_inside_long_words() {
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("one two three", 7), ["one two ", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh ", "ij"]);
        assert!(wrap("你好世界", 4).iter().all(|line| Span::raw(line.as_str()).width() <= 4));
    }

    proptest! {
        #[test]
        fn wrapping_loses_nothing_and_fits(text in "[a-z ☃你]{0,60}", width in 2..30usize) {
            let lines = wrap(&text, width);
            prop_assert_eq!(lines.concat(), text);
            // A space at the end may hang over.
            prop_assert!(lines.iter().all(|line| Span::raw(line.trim_end()).width() <= width));
        }
    }

    #[test]
    fn a_screen_of_any_size_shows_the_room_or_as_much_of_it_as_fits() {
        let mut model =
            Model::new(UserId::new("ann").unwrap(), TenantId::new("demo").unwrap(), UtcOffset::UTC);
        model.connected("eu-west");
        let id = ConversationId::from_bytes(&[0x11; 23]).unwrap();
        let group = json!({"conversation_id": id, "kind": "group", "name": "plans", "zone": "z", "home_region": "r",
            "acting_region": "us-east", "durability": "multi-region", "epoch": 1, "head_seq": 0,
            "member_count": 1, "members": [{"user_id": "bob", "role": "owner", "joined_seq": 1}]});
        let n = model.upsert(&serde_json::from_value(group).unwrap());
        model.switch(n);
        let message = json!({"message_id": "m", "seq": 1, "ver": 2, "epoch": 1, "sender": "bob", "device_id": "",
            "ts_ms": 0, "body": "how is everyone today?"});
        model.message(id, &serde_json::from_value(message).unwrap(), true);
        model.sending(id, &ClientMsgId::new("x").unwrap(), "fine");
        for (width, height) in [(120, 30), (60, 10), (20, 5), (3, 2), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let mut typing = Typing { line: "hello".chars().collect(), cursor: 5, scroll: 99 };
            terminal
                .draw(|frame| {
                    draw(frame, &model, &mut typing);
                })
                .unwrap();
            let screen = terminal.backend().to_string();
            if width == 120 {
                for seen in [
                    "ann of demo",
                    "● eu-west",
                    "#plans",
                    "00:00 bob how is everyone",
                    "fine  sending…",
                    "★ bob",
                    "hello",
                ] {
                    assert!(screen.contains(seen), "{seen} is not on\n{screen}");
                }
            }
        }
    }
}
