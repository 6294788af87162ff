use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn keys_are_made_once_and_only_their_owner_may_read_them() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("keys");
    let made = Keys::load_or_create(&folder).unwrap();
    let again = Keys::load_or_create(&folder).unwrap();
    assert_eq!(made.dev.public_key(), again.dev.public_key());
    assert_eq!(made.stream.public_key(), again.stream.public_key());
    assert_ne!(made.dev.public_key(), made.stream.public_key());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut files: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["dev.pem", "stream.pem"], "no draft is left");
    assert!(files.iter().all(|file| mode(&folder.join(file)) == 0o600));
}

#[test]
fn many_who_start_at_once_end_with_one_key() {
    let data = tempfile::tempdir().unwrap();
    let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| DevIssuer::load_or_create(data.path()).unwrap().public_key().0))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let data = tempfile::tempdir().unwrap();
    DevIssuer::load_or_create(data.path()).unwrap();
    let path = data.path().join("dev.pem");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = DevIssuer::load(data.path()).unwrap_err();
    assert!(matches!(error, KeyError::Exposed(_)));
    assert!(error.to_string().contains("chmod 600"));
}

#[test]
fn a_missing_or_broken_key_is_said_to_be() {
    let data = tempfile::tempdir().unwrap();
    let missing = DevIssuer::load(data.path()).unwrap_err();
    assert!(missing.to_string().contains("dev.pem"), "{missing}");
    private::create(&data.path().join("dev.pem"), b"not a key").unwrap();
    assert!(matches!(DevIssuer::load_or_create(data.path()).unwrap_err(), KeyError::NotAKey(_)));
}

#[test]
fn a_signing_key_never_shows_its_secret() {
    let shown = format!(
        "{:?}",
        Keys { dev: DevIssuer::from_seed([5; 32]), stream: StreamKey::from_seed([6; 32]) }
    );
    assert!(!shown.contains("[5, 5") && !shown.contains("private"), "{shown}");
}
