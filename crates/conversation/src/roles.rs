//! Who may do what with the members of a group.
//!
//! | | member | admin | owner |
//! |---|---|---|---|
//! | post, leave, take a lower role | yes | yes | yes |
//! | add members | | yes | yes |
//! | remove members | | yes | yes |
//! | remove admins and owners | | | yes |
//! | give and take roles | | | yes |
//!
//! A change is all or nothing. While anyone is left, an owner is left. Direct conversations and users' own streams have the
//! members that they were made with.

use std::collections::{BTreeMap, BTreeSet};

use wire::change::{MembersChanged, Role};
use wire::command::Refusal;
use wire::limits::{GROUP_MEMBERS, MEMBERS_PER_CHANGE};
use wire::{ErrorCode, UserId};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Come in.
    pub add: &'a [UserId],
    /// Go out.
    pub remove: &'a [UserId],
    /// Get a role; those who come in by the same change may be among them.
    pub roles: &'a [(UserId, Role)],
}

/// What really changes, in a group with these roles, if `by` may ask for it. None: everything is so already.
///
/// # Errors
/// `not_a_member`, `forbidden`, `too_large`, or `bad_request` when the wish contradicts itself or would leave members
/// without an owner.
pub fn change_members<M>(
    members: &BTreeMap<UserId, M>,
    role_of: impl Fn(&M) -> Role,
    by: &UserId,
    wish: Wish<'_>,
    head_seq: u64,
) -> Result<Option<MembersChanged>, Refusal> {
    let mine = role_of(members.get(by).ok_or_else(not_a_member)?);
    let named = wish.add.len() + wish.remove.len() + wish.roles.len();
    if named == 0 {
        return Err(Refusal::new(ErrorCode::BadRequest, "names nobody to add, remove or give a role"));
    }
    if named > MEMBERS_PER_CHANGE {
        return Err(Refusal::new(ErrorCode::TooLarge, format!("names more than {MEMBERS_PER_CHANGE} users")));
    }
    let add: BTreeSet<&UserId> = wish.add.iter().collect();
    let remove: BTreeSet<&UserId> = wish.remove.iter().collect();
    let mut roles = BTreeMap::new();
    for (user, role) in wish.roles {
        if *roles.entry(user).or_insert(*role) != *role {
            return Err(contradiction());
        }
    }
    if remove.iter().any(|user| add.contains(user) || roles.contains_key(user)) {
        return Err(contradiction());
    }
    allowed(members, &role_of, by, mine, &add, &remove, &roles)?;

    let changed = MembersChanged {
        by: by.clone(),
        added: add
            .iter()
            .filter(|user| !members.contains_key(**user))
            .map(|&user| (user.clone(), roles.get(user).copied().unwrap_or(Role::Member)))
            .collect(),
        removed: remove.iter().filter(|user| members.contains_key(**user)).map(|&user| user.clone()).collect(),
        roles: roles
            .iter()
            .filter(|(user, role)| members.get(**user).is_some_and(|member| role_of(member) != **role))
            .map(|(&user, &role)| (user.clone(), role))
            .collect(),
        head_seq,
    };
    if changed.added.is_empty() && changed.removed.is_empty() && changed.roles.is_empty() {
        return Ok(None);
    }
    keeps_an_owner(members, &role_of, &changed)?;
    Ok(Some(changed))
}

fn allowed<M>(
    members: &BTreeMap<UserId, M>,
    role_of: &impl Fn(&M) -> Role,
    by: &UserId,
    mine: Role,
    add: &BTreeSet<&UserId>,
    remove: &BTreeSet<&UserId>,
    roles: &BTreeMap<&UserId, Role>,
) -> Result<(), Refusal> {
    if !add.is_empty() && mine < Role::Admin {
        return Err(Refusal::new(ErrorCode::Forbidden, "only admins and owners add members"));
    }
    for user in remove.iter().filter(|user| **user != by) {
        match (mine, members.get(*user).map(role_of)) {
            (Role::Owner, _) | (Role::Admin, None | Some(Role::Member)) => {}
            (Role::Admin, _) => {
                return Err(Refusal::new(ErrorCode::Forbidden, "only owners remove admins and owners"));
            }
            (Role::Member, _) => {
                return Err(Refusal::new(ErrorCode::Forbidden, "only admins and owners remove others"));
            }
        }
    }
    for (user, role) in roles {
        match members.get(*user).map(role_of) {
            // Nothing is given that an addition does not give anyway.
            None if add.contains(user) && *role == Role::Member => {}
            None if add.contains(user) => owner_only(mine)?,
            None => return Err(Refusal::new(ErrorCode::BadRequest, "gives a role to someone who is not a member")),
            Some(_) if *user == by && *role <= mine => {}
            Some(_) => owner_only(mine)?,
        }
    }
    Ok(())
}

fn keeps_an_owner<M>(
    members: &BTreeMap<UserId, M>,
    role_of: &impl Fn(&M) -> Role,
    changed: &MembersChanged,
) -> Result<(), Refusal> {
    let left = members.len() + changed.added.len() - changed.removed.len();
    if left > GROUP_MEMBERS {
        return Err(Refusal::new(ErrorCode::TooLarge, format!("a group has at most {GROUP_MEMBERS} members")));
    }
    let given = changed.added.iter().chain(&changed.roles).any(|(_, role)| *role == Role::Owner);
    let kept = || {
        members.iter().any(|(user, member)| {
            role_of(member) == Role::Owner
                && changed.removed.binary_search(user).is_err()
                && changed.roles.binary_search_by(|(other, _)| other.cmp(user)).is_err()
        })
    };
    if left > 0 && !given && !kept() {
        return Err(Refusal::new(ErrorCode::BadRequest, "would leave the group without an owner"));
    }
    Ok(())
}

fn owner_only(mine: Role) -> Result<(), Refusal> {
    if mine == Role::Owner {
        Ok(())
    } else {
        Err(Refusal::new(ErrorCode::Forbidden, "only owners give and take roles"))
    }
}

fn contradiction() -> Refusal {
    Refusal::new(ErrorCode::BadRequest, "names a user twice, with different wishes")
}

pub(crate) fn not_a_member() -> Refusal {
    Refusal::new(ErrorCode::NotAMember, "not a member of this conversation")
}
