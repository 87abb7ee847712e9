use std::os::unix::fs::MetadataExt;

use super::*;

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
    let pair =
        |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    pairs.iter().map(pair).collect()
}

fn claim(root: &Path) -> Directory {
    Directory::claim(root, 0o440, "team/alice").unwrap()
}

/// Those that a program sees.
fn keys(root: &Path) -> Vec<String> {
    let mut keys = entries(root).unwrap();
    keys.retain(|entry| !entry.starts_with(".."));
    keys.sort();
    keys
}

fn folders(root: &Path) -> usize {
    let is_folder = |entry: &String| entry.starts_with("..2") && root.join(entry).is_dir();
    entries(root)
        .unwrap()
        .iter()
        .filter(|e| is_folder(e))
        .count()
}

#[test]
fn files_are_laid_out_as_the_kubelet_does_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut directory = claim(root);
    assert!(
        directory
            .show(&data(&[("token", "1"), ("scope", "read")]))
            .unwrap()
    );
    let link = |name: &str| fs::read_link(root.join(name)).unwrap();
    assert_eq!(link("token"), Path::new("..data/token"));
    assert_eq!(link("scope"), Path::new("..data/scope"));
    let folder = link("..data").into_os_string().into_string().unwrap();
    let is_dated = |name: &str| {
        let shape = name
            .bytes()
            .map(|b| if b.is_ascii_digit() { '0' } else { b as char });
        shape
            .collect::<String>()
            .starts_with("..0000_00_00_00_00_00.0")
    };
    assert!(is_dated(&folder), "{folder}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root.join(&folder)), 0o755);
    assert_eq!(mode(&root.join("token")), 0o440);
    assert_eq!(fs::read_to_string(root.join("token")).unwrap(), "1");
    assert_eq!(keys(root), ["scope", "token"]);
}

#[test]
fn a_change_is_shown_at_once_and_what_is_open_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut directory = claim(root);
    directory
        .show(&data(&[("token", "1"), ("gone", "x")]))
        .unwrap();
    let before = fs::canonicalize(root.join(DATA)).unwrap();
    assert!(
        directory
            .show(&data(&[("token", "2"), ("new", "y")]))
            .unwrap()
    );
    assert_eq!(keys(root), ["new", "token"]);
    assert_eq!(fs::read_to_string(root.join("token")).unwrap(), "2");
    assert_eq!(fs::read_to_string(before.join("token")).unwrap(), "1");
    assert!(!root.join(NEXT).exists());
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_goes_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let mut directory = claim(dir.path());
    for token in ["1", "2", "3"] {
        directory.show(&data(&[("token", token)])).unwrap();
    }
    assert_eq!(folders(dir.path()), 3);
    let began = Instant::now();
    directory.sweep().await;
    directory.sweep().await;
    assert_eq!(began.elapsed(), GRACE);
    assert_eq!(folders(dir.path()), 1);
    assert_eq!(fs::read_to_string(dir.path().join("token")).unwrap(), "3");
}

#[test]
fn the_same_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = data(&[("token", "1")]);
    claim(dir.path()).show(&files).unwrap();
    let number = || fs::metadata(dir.path().join("token")).unwrap().ino();
    let before = number();
    // As a process that was started anew.
    assert!(!claim(dir.path()).show(&files).unwrap());
    assert_eq!(number(), before);
    let mut other_mode = Directory::claim(dir.path(), 0o400, "team/alice").unwrap();
    assert!(other_mode.show(&files).unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_a_process_left_that_ended_in_between_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    claim(root)
        .show(&data(&[("token", "1"), ("old", "x")]))
        .unwrap();
    // Half of the next state, and a link of it that was not turned.
    fs::create_dir(root.join("..2026_01_01_00_00_00.1")).unwrap();
    fs::write(root.join("..2026_01_01_00_00_00.1/token"), "half").unwrap();
    symlink("..2026_01_01_00_00_00.1", root.join(NEXT)).unwrap();
    assert_eq!(fs::read_to_string(root.join("token")).unwrap(), "1");
    let mut directory = claim(root);
    directory
        .show(&data(&[("token", "2"), ("old", "x")]))
        .unwrap();
    assert_eq!(fs::read_to_string(root.join("token")).unwrap(), "2");
    directory.sweep().await;
    directory.sweep().await;
    assert_eq!(folders(root), 1);
    // Turned, and ended before the links were made and removed.
    fs::remove_file(root.join("token")).unwrap();
    symlink("..data/gone", root.join("gone")).unwrap();
    drop(directory);
    assert!(
        !claim(root)
            .show(&data(&[("token", "2"), ("old", "x")]))
            .unwrap()
    );
    assert_eq!(keys(root), ["old", "token"]);
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let claimed = |root: &Path, owner: &str| {
        let error = Directory::claim(root, 0o440, owner).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("notes"), "mine").unwrap();
    let said = claimed(foreign.path(), "team/alice");
    assert!(said.contains(r#"it has "notes""#), "{said}");
    assert_eq!(entries(foreign.path()).unwrap(), ["notes"]);

    let dir = tempfile::tempdir().unwrap();
    let alice = claim(dir.path());
    let said = claimed(dir.path(), "team/alice");
    assert!(said.contains("another process"), "{said}");
    drop(alice);
    let said = claimed(dir.path(), "team/bob");
    assert!(said.contains(r#""team/alice""#), "{said}");
    let said = claimed(Path::new("/proc/none"), "team/alice");
    assert!(
        said.starts_with("cannot create the directory /proc/none: "),
        "{said}"
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(claimed(&file, "team/alice").starts_with("cannot create the directory"));
}

#[test]
fn a_file_in_the_place_of_a_key_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut directory = claim(dir.path());
    directory.show(&data(&[("token", "1")])).unwrap();
    fs::write(dir.path().join("new"), "mine").unwrap();
    let error = directory.show(&data(&[("token", "2"), ("new", "y")]));
    assert!(matches!(error, Err(DirectoryError::Foreign { .. })));
    assert_eq!(fs::read_to_string(dir.path().join("token")).unwrap(), "1");
    assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "mine");
    assert_eq!(folders(dir.path()), 1);
}

#[test]
fn the_group_of_the_volume_is_handed_on_to_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let group = fs::metadata(root).unwrap().gid();
    // As the kubelet leaves a volume of a pod with an fsGroup.
    fs::set_permissions(root, Permissions::from_mode(0o2777)).unwrap();
    let mut directory = claim(root);
    directory.show(&data(&[("token", "1")])).unwrap();
    directory.show(&data(&[("token", "2")])).unwrap();
    let folder = fs::metadata(root.join(DATA)).unwrap();
    assert_eq!(folder.permissions().mode() & 0o7777, 0o2755);
    assert_eq!(fs::metadata(root.join("token")).unwrap().gid(), group);
}

#[test]
fn a_link_of_somebody_else_leads_nowhere_and_what_it_led_to_stays() {
    for target in ["absolute", "..", "../victim", "..data", "file"] {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("work"), "mine").unwrap();
        let root = dir.path().join("files");
        fs::create_dir(&root).unwrap();
        fs::write(root.join(MARK), "team/alice").unwrap();
        let to = if target == "absolute" {
            victim.as_path()
        } else {
            Path::new(target)
        };
        symlink(to, root.join(DATA)).unwrap();
        let mut directory = claim(&root);
        assert!(
            directory.show(&data(&[("token", "1")])).unwrap(),
            "{target}"
        );
        assert_eq!(fs::read_to_string(root.join("token")).unwrap(), "1");
        assert!(directory.retired.is_empty(), "{target}");
        assert!(victim.join("work").exists());
    }
}
