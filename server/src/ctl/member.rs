//! The member commands, and the one that moves leadership.

use super::arguments::MemberCommand;
use super::commands::connect;
use super::printer::{Format, MemberChange, Printer, Shown};
use super::quoted::quote;
use super::status::{ask_all, only};
use super::{EXIT_BAD_ARGUMENTS, EXIT_BAD_FEATURE, Failure};
use corestone_client::{MemberAdded, Options};
use std::io::Write;

pub(super) async fn run<W: Write>(
    command: MemberCommand,
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    match command {
        MemberCommand::List { consistency } => {
            let is_linearizable = match &consistency[..] {
                "l" => true,
                "s" => false,
                other => {
                    let message = format!("unknown consistency flag {other:?}");
                    return Err(Failure::new(EXIT_BAD_FEATURE, message));
                }
            };
            let members = connect(options)?.member_list_with(is_linearizable).await?;
            printer.show(&members.header, &Shown::Members(&members.body))?;
        }
        MemberCommand::Add { words, peer_urls, learner } => {
            add(&words, &peer_urls, learner, options, printer).await?;
        }
        MemberCommand::Remove { words } => {
            let id = member_id(&words)?;
            let left = connect(options)?.member_remove(id).await?;
            let change = MemberChange::Removed;
            let shown = Shown::MemberChange { id, change, members: &left.body };
            printer.show(&left.header, &shown)?;
        }
        MemberCommand::Update { words, peer_urls } => {
            let id = member_id(&words)?;
            let members = connect(options)?.member_update(id, &split(&peer_urls)?).await?;
            let change = MemberChange::Updated;
            let shown = Shown::MemberChange { id, change, members: &members.body };
            printer.show(&members.header, &shown)?;
        }
        MemberCommand::Promote { words } => {
            let id = member_id(&words)?;
            let members = connect(options)?.member_promote(id).await?;
            let change = MemberChange::Promoted;
            let shown = Shown::MemberChange { id, change, members: &members.body };
            printer.show(&members.header, &shown)?;
        }
    }
    Ok(())
}

/// Adds a member, and tells people what it is to be started with.
async fn add<W: Write>(
    words: &[String],
    peer_urls: &str,
    is_learner: bool,
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let name = match words {
        [] => return Err(Failure::new(EXIT_BAD_ARGUMENTS, "member name not provided")),
        [name] => name,
        _ => return Err(Failure::new(EXIT_BAD_ARGUMENTS, "too many arguments")),
    };
    let added = connect(options)?.member_add(&split(peer_urls)?, is_learner).await?;
    printer.show(&added.header, &Shown::MemberAdd { added: &added.body, is_learner })?;
    if printer.format() == Format::Simple {
        for line in environment(name, peer_urls, &added.body) {
            printer.show_line(&line)?;
        }
    }
    Ok(())
}

/// What the new member is started with, as variables of its environment.
fn environment(name: &str, peer_urls: &str, added: &MemberAdded) -> [String; 5] {
    let mut cluster = Vec::new();
    for member in &added.members {
        let name = if member.id == added.id { name } else { &member.name };
        cluster.extend(member.peer_urls.iter().map(|url| format!("{name}={url}")));
    }
    let quoted = |text: &str| quote(text.as_bytes());
    [
        String::new(),
        format!("ETCD_NAME={}", quoted(name)),
        format!("ETCD_INITIAL_CLUSTER={}", quoted(&cluster.join(","))),
        format!("ETCD_INITIAL_ADVERTISE_PEER_URLS={}", quoted(peer_urls)),
        "ETCD_INITIAL_CLUSTER_STATE=\"existing\"".to_owned(),
    ]
}

/// Hands leadership over: asked of the endpoint that leads.
pub(super) async fn move_leader<W: Write>(
    words: &[String],
    options: Options,
    printer: &mut Printer<W>,
) -> Result<(), Failure> {
    let [word] = words else {
        let message = "move-leader command needs 1 argument";
        return Err(Failure::new(EXIT_BAD_ARGUMENTS, message));
    };
    let target_id = parse_id(word).map_err(|message| Failure::new(EXIT_BAD_ARGUMENTS, message))?;
    for (endpoint, answer) in ask_all(&options).await? {
        let status = answer.map_err(Failure::from)?;
        let leader_id = status.header.member_id;
        if status.leader != leader_id {
            continue;
        }
        connect(only(&options, &endpoint))?.move_leader(target_id).await?;
        let line = format!("Leadership transferred from {leader_id:x} to {target_id:x}");
        return Ok(printer.show_line(&line)?);
    }
    let endpoints = options.endpoints.join(" ");
    let message = format!("no leader endpoint given at [{endpoints}]");
    Err(Failure::new(EXIT_BAD_ARGUMENTS, message))
}

fn member_id(words: &[String]) -> Result<u64, Failure> {
    let [word] = words else {
        return Err(Failure::new(EXIT_BAD_ARGUMENTS, "member ID is not provided"));
    };
    parse_id(word).map_err(|why| {
        let message = format!("bad member ID arg ({why}), expecting ID in Hex");
        Failure::new(EXIT_BAD_ARGUMENTS, message)
    })
}

/// The error's text is Go's.
fn parse_id(word: &str) -> Result<u64, String> {
    let is_hex = word.bytes().all(|digit| digit.is_ascii_hexdigit());
    let parsed = if is_hex { u64::from_str_radix(word, 16).ok() } else { None };
    parsed.ok_or_else(|| {
        let is_too_large = is_hex && !word.is_empty();
        let why = if is_too_large { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseUint: parsing {word:?}: {why}")
    })
}

fn split(peer_urls: &str) -> Result<Vec<&str>, Failure> {
    if peer_urls.is_empty() {
        return Err(Failure::new(EXIT_BAD_ARGUMENTS, "member peer urls not provided"));
    }
    Ok(peer_urls.split(',').collect())
}
