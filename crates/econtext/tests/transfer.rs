//! Files there and back: whole or not at all, and no more than needed.
#![allow(missing_docs, clippy::unwrap_used)]

use econtext::transfer::{TransferOptions, Transferred};
use econtext::{Broker, Context, ErrorKind, Local, Python};
use econtext_testkit::files::tree;
use econtext_testkit::{processes, pythons, tools};
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

fn connect(broker: &Broker, python: &pythons::Python) -> Context {
    Context::builder("child").python(Python::Path(python.to_arg())).connect(broker, Local).unwrap()
}

/// Of those Pythons that see the same files as this test.
fn each(test: impl Fn(&Context)) {
    let broker = Broker::new().unwrap();
    for python in pythons::all().into_iter().filter(|p| !p.chroot) {
        println!("Python {}", python.minor);
        test(&connect(&broker, &python));
    }
}

fn put(child: &Context, source: &Path, destination: &Path) -> Transferred {
    child.put(&[source], destination.to_str().unwrap(), &TransferOptions::default(), |_| {}).unwrap()
}

fn noise(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    getrandom::fill(&mut data).unwrap();
    data
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_goes_there_and_back_and_is_skipped_when_it_is_the_same() {
    let data = noise(3_000_001);
    each(|child| {
        let here = tree(&[("empty", "")]);
        let there = tree(&[]);
        let source = here.path().join("data.bin");
        fs::write(&source, &data).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).unwrap();
        let target = there.path().join("copy.bin");
        let sent = put(child, &source, &target);
        assert_eq!(sent, Transferred { files: 1, skipped: 0, bytes: 3_000_001 });
        assert_eq!(fs::read(&target).unwrap(), data);
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o640);
        assert_eq!(put(child, &source, &target), Transferred { files: 0, skipped: 1, bytes: 0 });
        put(child, &here.path().join("empty"), there.path());
        let back = tree(&[]);
        let options = TransferOptions::default();
        let got = child.get(&[&target, &there.path().join("empty")], back.path(), &options, |_| {}).unwrap();
        assert_eq!(got, Transferred { files: 2, skipped: 0, bytes: 3_000_001 });
        assert_eq!(fs::read(back.path().join("copy.bin")).unwrap(), data);
        let got = child.get(&[&target], back.path(), &options, |_| {}).unwrap();
        assert_eq!(got, Transferred { files: 0, skipped: 1, bytes: 0 });
        assert_eq!(names(back.path()), ["copy.bin", "empty"]);
        assert_eq!(names(there.path()), ["copy.bin", "empty"]);
    });
}

/// An owner and a group that a file may be given: any, by root.
fn owner() -> (u32, u32) {
    match rustix::process::geteuid() {
        root if root.is_root() => (1234, 4321),
        own => (own.as_raw(), rustix::process::getegid().as_raw()),
    }
}

#[test]
fn directories_links_modes_and_times_are_kept_on_request() {
    each(|child| {
        let here = tree(&[("d/a.txt", "a"), ("d/sub/b.txt", "b"), ("d/sub/deep/c.txt", "c")]);
        let d = here.path().join("d");
        symlink("a.txt", d.join("link")).unwrap();
        fs::create_dir(d.join("none")).unwrap();
        let (uid, gid) = owner();
        std::os::unix::fs::chown(d.join("a.txt"), Some(uid), Some(gid)).unwrap();
        fs::set_permissions(d.join("a.txt"), fs::Permissions::from_mode(0o4750)).unwrap();
        let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for path in [d.join("a.txt"), d.join("sub")] {
            fs::File::open(path).unwrap().set_times(fs::FileTimes::new().set_modified(old)).unwrap();
        }
        let there = tree(&[]);
        let into = there.path().to_str().unwrap();
        let keep = TransferOptions { preserve: true, links: true, ..Default::default() };
        let check = |root: &Path, kept: bool| {
            assert_eq!(fs::read(root.join("sub/deep/c.txt")).unwrap(), b"c");
            assert!(root.join("none").is_dir());
            let a = fs::metadata(root.join("a.txt")).unwrap();
            let link = fs::symlink_metadata(root.join("link")).unwrap();
            assert_eq!(link.is_symlink(), kept);
            assert_eq!(fs::read(root.join("link")).unwrap(), b"a");
            assert_eq!((a.uid(), a.gid(), a.mtime()) == (uid, gid, 1_000_000_000), kept, "{a:?}");
            assert_eq!(a.mode() & 0o7777, if kept { 0o4750 } else { 0o750 });
            assert_eq!(fs::metadata(root.join("sub")).unwrap().mtime() == 1_000_000_000, kept);
        };
        child.put(&[&d], into, &keep, |_| {}).unwrap();
        check(&there.path().join("d"), true);
        child.put(&[&d], format!("{into}/plain"), &TransferOptions::default(), |_| {}).unwrap();
        check(&there.path().join("plain"), false);
        let back = tree(&[]);
        child.get(&[there.path().join("d")], back.path(), &keep, |_| {}).unwrap();
        check(&back.path().join("d"), true);
        let plain = tree(&[]);
        child.get(&[there.path().join("d")], plain.path(), &TransferOptions::default(), |_| {}).unwrap();
        check(&plain.path().join("d"), false);
    });
}

#[test]
fn what_was_there_keeps_its_mode_and_links_lead_to_it() {
    let broker = Broker::new().unwrap();
    let child = connect(&broker, &pythons::any());
    let here = tree(&[("new.conf", "new")]);
    let there = tree(&[("real.conf", "old")]);
    let real = there.path().join("real.conf");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    let (uid, gid) = owner();
    std::os::unix::fs::chown(&real, Some(uid), Some(gid)).unwrap();
    symlink("real.conf", there.path().join("app.conf")).unwrap();
    put(&child, &here.path().join("new.conf"), &there.path().join("app.conf"));
    assert!(fs::symlink_metadata(there.path().join("app.conf")).unwrap().is_symlink());
    let metadata = fs::metadata(&real).unwrap();
    assert_eq!(
        (fs::read(&real).unwrap(), metadata.mode() & 0o777, metadata.uid()),
        (b"new".to_vec(), 0o600, uid)
    );
}

#[test]
fn errors_name_the_file_and_leave_nothing_half_done() {
    each(|child| {
        let here = tree(&[("a", "x")]);
        let options = TransferOptions::default();
        let error = child.put(&[here.path().join("missing")], "/tmp/", &options, |_| {}).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        // A failure of this machine is no misuse: something may have been done by then.
        assert_eq!(error.kind(), ErrorKind::Local);
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
        // The path is the user's own, and no representation of it.
        let error = child.put(&[here.path().join("a")], "/nonexistent/dir/a", &options, |_| {}).unwrap_err();
        let message = error.message();
        assert!(message.ends_with("No such file or directory: '/nonexistent/dir/a'"), "{error}");
        let back = tree(&[]);
        let error = child.get(&["/nonexistent"], back.path(), &options, |_| {}).unwrap_err();
        assert!(error.message().ends_with("No such file or directory: '/nonexistent'"), "{error}");
        let error = child.get(&["/etc/hostname"], Path::new("/proc/nothing"), &options, |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Local, "{error}");
        let error = child.get(&["/dev/null"], back.path(), &options, |_| {}).unwrap_err();
        assert!(error.to_string().contains("neither a file nor a directory"), "{error}");
        // Devices and directories are not replaced.
        for target in ["/dev/null", "/dev/full"] {
            let error = child.put(&[here.path().join("a")], target, &options, |_| {}).unwrap_err();
            assert!(error.to_string().contains("no file"), "{error}");
            assert!(!fs::metadata(target).unwrap().is_file());
        }
        let there = tree(&[("a/x", "")]);
        let into = format!("{}/", there.path().display());
        let error = child.put(&[here.path().join("a")], &into, &options, |_| {}).unwrap_err();
        assert!(error.to_string().contains("no file"), "{error}");
        assert_eq!(names(back.path()), Vec::<String>::new());
        assert!(child.call::<i64>("os:getpid", ()).wait().is_ok());
    });
}

#[test]
fn a_lost_connection_is_gone_on_with() {
    const SIZE: usize = 24 << 20;
    let data = noise(SIZE);
    each(|child| {
        let here = tree(&[]);
        let there = tree(&[]);
        let source = here.path().join("big");
        fs::write(&source, &data).unwrap();
        let target = there.path().join("big");
        let broker = Broker::new().unwrap();
        let cut = |progress: econtext::transfer::Progress<'_>, child: &Context| {
            if progress.done > (SIZE / 2) as u64 {
                child.shutdown(Duration::ZERO);
            }
        };
        let options = TransferOptions::default();
        let first = broker.local("first").unwrap();
        let error =
            first.put(&[&source], target.to_str().unwrap(), &options, |p| cut(p, &first)).unwrap_err();
        assert_eq!(error.kind(), econtext::ErrorKind::Closed, "{error}");
        assert!(!target.exists());
        let sent = put(child, &source, &target);
        assert!(sent.files == 1 && sent.bytes < (SIZE * 7 / 8) as u64, "{sent:?}");
        assert!(fs::read(&target).unwrap() == data);
        assert_eq!(names(there.path()), ["big"]);
        // And the other way.
        let back = tree(&[]);
        let second = broker.local("second").unwrap();
        let error = second.get(&[&target], back.path(), &options, |p| cut(p, &second)).unwrap_err();
        assert_eq!(error.kind(), econtext::ErrorKind::Closed, "{error}");
        let got = child.get(&[&target], back.path(), &options, |_| {}).unwrap();
        assert!(got.files == 1 && got.bytes < (SIZE * 7 / 8) as u64, "{got:?}");
        assert!(fs::read(back.path().join("big")).unwrap() == data);
        // The beginning of another file is not resumed.
        let other = there.path().join(".other.econtext-part");
        fs::write(&other, noise(1 << 20)).unwrap();
        let sent = put(child, &source, &there.path().join("other"));
        assert_eq!(sent.bytes, SIZE as u64);
        assert!(fs::read(there.path().join("other")).unwrap() == data);
    });
}

#[test]
fn a_file_of_four_gigabytes_takes_flat_memory_either_way() {
    const SIZE: u64 = 4 << 30;
    let here = tree(&[]);
    let there = tree(&[]);
    let source = here.path().join("large");
    let file = fs::File::create(&source).unwrap();
    file.set_len(SIZE).unwrap();
    for at in [0, SIZE / 2, SIZE - 4] {
        file.write_all_at(b"here", at).unwrap();
    }
    let broker = Broker::new().unwrap();
    let child = connect(&broker, &pythons::any());
    let pid = u32::try_from(child.call::<i64>("os:getpid", ()).wait().unwrap()).unwrap();
    let peak = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let start = std::time::Instant::now();
    let sent = put(&child, &source, &there.path().join("large"));
    let there_after = start.elapsed();
    assert!(sent.bytes < 4 << 20, "holes stay holes: {sent:?}");
    let copy = fs::metadata(there.path().join("large")).unwrap();
    assert!(copy.len() == SIZE && copy.blocks() * 512 < 16 << 20, "{copy:?}");
    let back = tree(&[]);
    let start = std::time::Instant::now();
    child.get(&[there.path().join("large")], back.path(), &TransferOptions::default(), |_| {}).unwrap();
    println!("4 GiB, sparse: there {there_after:?}, back {:?}", start.elapsed());
    let copy = fs::File::open(back.path().join("large")).unwrap();
    let mut found = [0; 4];
    copy.read_exact_at(&mut found, SIZE / 2).unwrap();
    assert_eq!((&found, copy.metadata().unwrap().len()), (b"here", SIZE));
    assert!(peak(pid) < 64 << 10, "{} KiB there", peak(pid));
    assert!(processes::memory(std::process::id()).unwrap() < 128 << 10);
}

/// A small file system; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        if !tools::is_root("a small file system") || !tools::has_all(&["mount", "umount"]) {
            return None;
        }
        let directory = tree(&[]);
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "econtext-test"])
            .arg(directory.path())
            .status();
        assert!(status.is_ok_and(|s| s.success()), "a small file system is mounted");
        Some(Small(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_keeps_what_was_there() {
    let Some(small) = Small::mount() else { return };
    let here = tree(&[]);
    let source = here.path().join("large");
    fs::write(&source, noise(3 << 20)).unwrap();
    let target = small.0.path().join("large");
    fs::write(&target, "before").unwrap();
    let options = TransferOptions::default();
    each(|child| {
        let error = child.put(&[&source], target.to_str().unwrap(), &options, |_| {}).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"before");
        assert_eq!(names(small.0.path()), ["large"]);
        let error = child.get(&[&source], small.0.path(), &options, |_| {}).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"before");
        assert_eq!(names(small.0.path()), ["large"]);
    });
}

#[test]
fn links_that_lie_where_files_go_lead_nowhere() {
    let broker = Broker::new().unwrap();
    let child = connect(&broker, &pythons::any());
    let outside = tree(&[("x", "outside"), ("d/x", "outside")]);
    let there = tree(&[("x", "new"), ("d/x", "new")]);
    let options = TransferOptions::default();
    let here = tree(&[]);
    // As an earlier `get` with links, or another user of a shared directory, may have left them.
    symlink(outside.path().join("d"), here.path().join("d")).unwrap();
    let error = child.get(&[there.path().join("d")], here.path(), &options, |_| {}).unwrap_err();
    assert!(error.to_string().contains('d'), "{error}");
    symlink(outside.path().join("x"), here.path().join(".x.econtext-part")).unwrap();
    child.get(&[there.path().join("x")], here.path(), &options, |_| {}).unwrap();
    assert_eq!(fs::read(here.path().join("x")).unwrap(), b"new");
    let shared = tree(&[]);
    symlink(outside.path().join("x"), shared.path().join(".x.econtext-part")).unwrap();
    put(&child, &there.path().join("x"), shared.path());
    assert_eq!(fs::read(shared.path().join("x")).unwrap(), b"new");
    for path in ["x", "d/x"] {
        assert_eq!(fs::read(outside.path().join(path)).unwrap(), b"outside");
    }
    // A directory that is in itself has no end.
    let looped = tree(&[("d/a", "")]);
    symlink(".", looped.path().join("d/self")).unwrap();
    let error = child.put(&[looped.path().join("d")], "/tmp/never", &options, |_| {}).unwrap_err();
    assert!(error.to_string().contains("in itself"), "{error}");
    let error = child.get(&[looped.path().join("d")], here.path(), &options, |_| {}).unwrap_err();
    assert!(error.to_string().contains("in itself"), "{error}");
}

#[test]
fn hosts_with_a_disk_in_common_may_get_the_same_file_at_the_same_time() {
    let data = noise(300 << 10);
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("file"), &data).unwrap();
    let there = tempfile::tempdir().unwrap();
    let broker = Broker::new().unwrap();
    for python in pythons::some().into_iter().flat_map(|python| std::iter::repeat_n(python, 8)) {
        let children: Vec<_> = (0..6).map(|_| connect(&broker, &python)).collect();
        std::thread::scope(|scope| {
            for child in &children {
                scope.spawn(|| put(child, &here.path().join("file"), there.path()));
            }
        });
        assert!(fs::read(there.path().join("file")).unwrap() == data);
        let left: Vec<_> = fs::read_dir(there.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["file"], "nothing else is left");
        fs::remove_file(there.path().join("file")).unwrap();
    }
}

#[test]
fn received_files_leave_the_mask_of_permissions_as_it_is() {
    let broker = Broker::new().unwrap();
    let files: Vec<(String, &str)> = (0..200).map(|n| (format!("d/{n}"), "x")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let there = tree(&files);
    let source = [there.path().join("d")];
    let before = umask();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (broker, source) = (&broker, &source);
            scope.spawn(move || {
                let child = Context::builder(format!("child{n}")).connect(broker, Local).unwrap();
                for _ in 0..3 {
                    let back = tree(&[]);
                    child.get(source, back.path(), &TransferOptions::default(), |_| {}).unwrap();
                    let mode = fs::metadata(back.path().join("d/7")).unwrap().permissions().mode();
                    assert_eq!(mode & 0o777, 0o666 & !before & 0o644);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..2000 {
                assert_eq!(umask(), before, "while files arrive");
            }
        });
    });
    assert_eq!(umask(), before);
}

/// The mask of this process.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(mask.trim(), 8).unwrap()
}

#[test]
fn the_same_file_may_be_received_twice_at_the_same_time() {
    let broker = Broker::new().unwrap();
    let there = tree(&[]);
    let path = there.path().join("f");
    fs::write(&path, noise(8 << 20)).unwrap();
    let back = tree(&[]);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (broker, path, back) = (&broker, &path, &back);
            scope.spawn(move || {
                let child = Context::builder(format!("child{n}")).connect(broker, Local).unwrap();
                child.get(&[path], back.path(), &TransferOptions::default(), |_| {}).unwrap();
            });
        }
    });
    assert_eq!(names(back.path()), ["f"]);
    assert!(fs::read(back.path().join("f")).unwrap() == fs::read(&path).unwrap());
}
