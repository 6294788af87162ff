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
//! A change is all or nothing. While anyone is left, an owner is left. Direct conversations and
//! user streams keep the members they were made with.

use std::collections::{BTreeMap, BTreeSet};

use wire::change::{MembersChanged, Role};
use wire::command::Refusal;
use wire::limits::{GROUP_MEMBERS, MEMBERS_PER_CHANGE};
use wire::{ErrorCode, UserId};

#[derive(Clone, Copy, Debug)]
pub struct MembershipRequest<'a> {
    /// Users to add.
    pub add: &'a [UserId],
    /// Users to remove.
    pub remove: &'a [UserId],
    /// Roles to give; users added by the same change may be among them.
    pub roles: &'a [(UserId, Role)],
}

/// The part of the request that changes anything, in a group with these roles, if `by` may ask for
/// it. None when everything is so already.
///
/// # Errors
/// `not_a_member`, `forbidden`, `too_large`, or `bad_request` when the request contradicts itself
/// or would leave members without an owner.
pub fn change_members<M>(
    members: &BTreeMap<UserId, M>,
    role_of: impl Fn(&M) -> Role,
    by: &UserId,
    wish: MembershipRequest<'_>,
    head_seq: u64,
) -> Result<Option<MembersChanged>, Refusal> {
    let mine = role_of(members.get(by).ok_or_else(not_a_member)?);
    let named = wish.add.len() + wish.remove.len() + wish.roles.len();
    if named == 0 {
        return Err(Refusal::new(
            ErrorCode::BadRequest,
            "names nobody to add, remove or give a role",
        ));
    }
    if named > MEMBERS_PER_CHANGE {
        return Err(Refusal::new(
            ErrorCode::TooLarge,
            format!("names more than {MEMBERS_PER_CHANGE} users"),
        ));
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

    let mut changed = MembersChanged {
        by: by.clone(),
        added: add
            .iter()
            .filter(|user| !members.contains_key(**user))
            .map(|&user| (user.clone(), roles.get(user).copied().unwrap_or(Role::Member)))
            .collect(),
        removed: remove
            .iter()
            .filter(|user| members.contains_key(**user))
            .map(|&user| user.clone())
            .collect(),
        roles: roles
            .iter()
            .filter(|(user, role)| {
                members.get(**user).is_some_and(|member| role_of(member) != **role)
            })
            .map(|(&user, &role)| (user.clone(), role))
            .collect(),
        head_seq,
        member_count: 0,
    };
    let count = members.len() + changed.added.len() - changed.removed.len();
    changed.member_count = u32::try_from(count).unwrap_or(u32::MAX);
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
                return Err(Refusal::new(
                    ErrorCode::Forbidden,
                    "only owners remove admins and owners",
                ));
            }
            (Role::Member, _) => {
                return Err(Refusal::new(
                    ErrorCode::Forbidden,
                    "only admins and owners remove others",
                ));
            }
        }
    }
    for (user, role) in roles {
        match members.get(*user).map(role_of) {
            // An addition gives this role anyway.
            None if add.contains(user) && *role == Role::Member => {}
            None if add.contains(user) => owner_only(mine)?,
            None => {
                return Err(Refusal::new(
                    ErrorCode::BadRequest,
                    "gives a role to someone who is not a member",
                ));
            }
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
        return Err(Refusal::new(
            ErrorCode::TooLarge,
            format!("a group has at most {GROUP_MEMBERS} members"),
        ));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn users(names: &str) -> Vec<UserId> {
        names.split_whitespace().map(user).collect()
    }

    /// `ann` owns, `bob` administers, `cat` and `dan` are members.
    fn group() -> BTreeMap<UserId, Role> {
        [("ann", Role::Owner), ("bob", Role::Admin), ("cat", Role::Member), ("dan", Role::Member)]
            .map(|(name, role)| (user(name), role))
            .into()
    }

    fn ask(
        by: &str,
        add: &str,
        remove: &str,
        roles: &[(&str, Role)],
    ) -> Result<Option<MembersChanged>, ErrorCode> {
        let roles: Vec<_> = roles.iter().map(|&(name, role)| (user(name), role)).collect();
        let wish = MembershipRequest { add: &users(add), remove: &users(remove), roles: &roles };
        change_members(&group(), |role| *role, &user(by), wish, 9).map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_table_of_roles_holds() {
        use Role::{Admin, Member, Owner};
        let forbidden = |asked: Result<_, ErrorCode>| assert_eq!(asked, Err(ErrorCode::Forbidden));
        let done =
            |asked: Result<Option<MembersChanged>, ErrorCode>| assert!(asked.unwrap().is_some());
        forbidden(ask("cat", "eve", "", &[]));
        forbidden(ask("cat", "ann", "", &[]));
        done(ask("bob", "eve", "", &[]));
        done(ask("ann", "eve", "", &[]));

        forbidden(ask("cat", "", "dan", &[]));
        done(ask("bob", "", "dan", &[]));
        forbidden(ask("bob", "", "ann", &[]));
        done(ask("ann", "", "bob", &[]));
        done(ask("cat", "", "cat", &[]));
        done(ask("bob", "", "bob", &[]));

        forbidden(ask("cat", "", "", &[("cat", Admin)]));
        forbidden(ask("bob", "", "", &[("cat", Admin)]));
        forbidden(ask("bob", "", "", &[("bob", Owner)]));
        forbidden(ask("bob", "eve", "", &[("eve", Admin)]));
        done(ask("bob", "eve", "", &[("eve", Member)]));
        done(ask("bob", "", "", &[("bob", Member)]));
        done(ask("ann", "", "", &[("cat", Admin), ("bob", Owner)]));
        done(ask("ann", "eve", "", &[("eve", Owner)]));
    }

    #[test]
    fn who_is_not_in_it_changes_nothing() {
        assert_eq!(ask("eve", "eve", "", &[]), Err(ErrorCode::NotAMember));
        assert_eq!(ask("eve", "", "eve", &[]), Err(ErrorCode::NotAMember));
    }

    #[test]
    fn only_what_really_changes_is_said_and_sorted() {
        let changed =
            ask("ann", "fay eve cat eve", "dan zed", &[("bob", Role::Admin), ("cat", Role::Admin)]);
        let changed = changed.unwrap().unwrap();
        assert_eq!(changed.added, [(user("eve"), Role::Member), (user("fay"), Role::Member)]);
        assert_eq!(changed.removed, users("dan"));
        assert_eq!(changed.roles, [(user("cat"), Role::Admin)]);
        assert_eq!((changed.by, changed.head_seq), (user("ann"), 9));
        assert_eq!(ask("ann", "cat", "zed", &[("bob", Role::Admin)]), Ok(None), "it is so already");
    }

    #[test]
    fn while_anyone_is_left_an_owner_is_left() {
        let bad = Err(ErrorCode::BadRequest);
        assert_eq!(ask("ann", "", "ann", &[]), bad);
        assert_eq!(ask("ann", "", "", &[("ann", Role::Member)]), bad);
        assert!(ask("ann", "", "ann", &[("bob", Role::Owner)]).is_ok());
        assert!(ask("ann", "", "", &[("ann", Role::Member), ("bob", Role::Owner)]).is_ok());
        assert!(ask("ann", "eve", "ann", &[("eve", Role::Owner)]).is_ok());
        assert!(ask("ann", "", "ann bob cat dan", &[]).is_ok(), "nobody is left");
    }

    #[test]
    fn contradictions_and_strangers_are_refused() {
        let bad = Err(ErrorCode::BadRequest);
        assert_eq!(ask("ann", "", "", &[]), bad);
        assert_eq!(ask("ann", "eve", "eve", &[]), bad);
        assert_eq!(ask("ann", "", "bob", &[("bob", Role::Member)]), bad);
        assert_eq!(ask("ann", "", "", &[("bob", Role::Member), ("bob", Role::Owner)]), bad);
        assert_eq!(ask("ann", "", "", &[("eve", Role::Admin)]), bad);
    }

    #[test]
    fn a_change_and_a_group_have_their_limits() {
        let many = (0..MEMBERS_PER_CHANGE + 1).map(|n| format!("u{n} ")).collect::<String>();
        assert_eq!(ask("ann", &many, "", &[]), Err(ErrorCode::TooLarge));
        let full: BTreeMap<_, _> =
            (0..GROUP_MEMBERS).map(|n| (user(&format!("u{n}")), Role::Owner)).collect();
        let add = |add: &str, remove: &str| {
            let wish = MembershipRequest { add: &users(add), remove: &users(remove), roles: &[] };
            change_members(&full, |role| *role, &user("u0"), wish, 0)
                .map_err(|refusal| refusal.code)
        };
        assert_eq!(add("eve", ""), Err(ErrorCode::TooLarge));
        assert!(add("eve", "u1").is_ok());
    }
}
