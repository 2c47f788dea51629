//! The known hosts, their groups, and the variables of both.

mod groups;
mod ini;
mod load;
mod native;
mod tree;
mod vars;

pub use groups::Inventory;

use crate::settings::Settings;
use crate::spec_error::SpecError;
use crate::target::Target;
use serde_json::{Map, Value as Json};
use std::path::Path;

impl Inventory {
    /// Reads a file, a directory of files, or a script that prints JSON when it is given `--list`.
    /// Files may be our TOML, ansible's INI or YAML, or plain lists of hosts.
    ///
    /// # Errors
    /// If it is invalid or cannot be read; the error says where.
    pub fn load(&mut self, path: &Path) -> Result<(), SpecError> {
        load::load(self, path)?;
        self.check()
    }

    /// An inventory of one text; the extension of `name`, its file name, says the format.
    ///
    /// # Errors
    /// If the text is invalid.
    ///
    /// ```
    /// let inventory = econtext_fleet::Inventory::parse("hosts", "[web]\nweb[01:03] ansible_user=deploy\n")?;
    /// assert_eq!(inventory.members("web")?, ["web01", "web02", "web03"]);
    /// # Ok::<(), econtext_fleet::SpecError>(())
    /// ```
    pub fn parse(name: &str, text: &str) -> Result<Self, SpecError> {
        let mut inventory = Inventory::default();
        load::read(&mut inventory, Path::new(name), text)?;
        inventory.check()?;
        Ok(inventory)
    }

    /// The variables of a host, including those of its groups, without secrets.
    pub fn variables(&self, host: &str) -> Map<String, Json> {
        let mut vars = self.vars(host);
        vars.retain(|name, _| !vars::is_secret(name));
        vars
    }

    /// The target of a host, from its name, then `settings`, then its variables.
    ///
    /// # Errors
    /// If the name or a variable is invalid.
    pub fn target(&self, name: &str, settings: &Settings) -> Result<Target, SpecError> {
        let mut target = Target::parse(name)?;
        // A name with a scheme is complete by itself: docker:web1 is not the host web1.
        let bare = target.is_ssh().then(|| target.host());
        let known = [Some(name), bare].into_iter().flatten().find(|name| self.knows(name));
        let Some(known) = known else {
            target.settings = settings.clone();
            return Ok(target);
        };
        let vars = self.vars(known);
        let (address, theirs) = vars::settings(known, &vars)?;
        if let Some(address) = address {
            target = target.at(&address)?;
        }
        target.settings = settings.or(&theirs);
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(inventory: &Inventory, host: &str) -> String {
        inventory.target(host, &Settings::default()).unwrap().settings.user.unwrap_or_default()
    }

    const INI: &str = "\
; a comment
lone ansible_port=2022
[web]
web[01:03].example.com ansible_user=deploy note='a # b'
[db]
db-[a:c] # three of them
[all:vars]
ansible_user = anyone
[site:children]
web
db
[site:vars]
ansible_user=site
zone = eu west
[db:vars]
ansible_ssh_user=dba
";
    const YAML: &str = "\
all:
  vars: {ansible_user: anyone}
  hosts:
    lone: {ansible_port: 2022}
  children:
    site:
      vars: {ansible_user: site, zone: eu west}
      children:
        web:
          hosts:
            'web[01:03].example.com': {ansible_user: deploy, note: 'a # b'}
        db:
          hosts: {'db-[a:c]': }
          vars: {ansible_ssh_user: dba}
";
    const TOML: &str = "\
[groups.all]
user = 'anyone'
[hosts.lone]
port = 2022
[groups.web]
hosts = ['web[01-03].example.com']
[hosts.'web[01-03].example.com']
user = 'deploy'
vars = { note = 'a # b' }
[groups.site]
children = ['web', 'db']
user = 'site'
vars = { zone = 'eu west' }
[groups.db]
hosts = ['db-[a-c]']
user = 'dba'
";
    const SCRIPT: &str = r#"{
  "all": {"vars": {"ansible_user": "anyone"}, "hosts": ["lone"]},
  "site": {"children": ["web", "db"], "vars": {"ansible_user": "site", "zone": "eu west"}},
  "web": ["web01.example.com", "web02.example.com", "web03.example.com"],
  "db": {"hosts": ["db-a", "db-b", "db-c"], "vars": {"ansible_ssh_user": "dba"}},
  "_meta": {"hostvars": {"lone": {"ansible_port": 2022},
    "web01.example.com": {"ansible_user": "deploy", "note": "a # b"},
    "web02.example.com": {"ansible_user": "deploy", "note": "a # b"},
    "web03.example.com": {"ansible_user": "deploy", "note": "a # b"}}}}"#;

    #[test]
    fn every_format_says_the_same() {
        for (name, text) in
            [("hosts", INI), ("hosts.yml", YAML), ("hosts.toml", TOML), ("hosts.json", SCRIPT)]
        {
            let inventory = Inventory::parse(name, text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(inventory.members("*").unwrap().len(), 7, "{name}");
            assert_eq!(inventory.members("db").unwrap(), ["db-a", "db-b", "db-c"], "{name}");
            assert_eq!(inventory.members("site").unwrap().len(), 6, "{name}");
            assert_eq!(inventory.members("ungrouped").unwrap(), ["lone"], "{name}");
            assert_eq!(user(&inventory, "lone"), "anyone", "{name}");
            assert_eq!(user(&inventory, "web02.example.com"), "deploy", "{name}");
            assert_eq!(user(&inventory, "db-a"), "dba", "{name}: a child group wins over its parent");
            assert_eq!(inventory.target("lone", &Settings::default()).unwrap().settings.port, Some(2022));
            let vars = inventory.variables("web01.example.com");
            assert_eq!((&vars["zone"], &vars["note"]), (&"eu west".into(), &"a # b".into()), "{name}");
            assert_eq!(inventory.groups_of("db-b"), ["db", "site"], "{name}");
        }
    }

    #[test]
    fn the_name_then_the_command_line_then_the_inventory_say_how_a_host_is_reached() {
        let text = "web1 ansible_host=10.0.0.7 ansible_port=22 ansible_user=a ansible_python_interpreter=/opt/py\n\
                    app ansible_connection=docker ansible_host=app_1\nbox ansible_connection=local\n\
                    root1 ansible_become=yes ansible_become_method=su ansible_become_user=admin econtext_via=bastion,inner\n";
        let inventory = Inventory::parse("hosts", text).unwrap();
        let line = |name: &str, settings: &Settings| {
            inventory.target(name, settings).unwrap().commands(&[], true).join("|")
        };
        let none = Settings::default();
        let plain = line("web1", &none);
        assert!(plain.starts_with("ssh -l a -p 22 ") && plain.contains(" -- 10.0.0.7 "), "{plain}");
        assert!(plain.contains("/opt/py"), "{plain}");
        let flags = Settings { user: Some("b".into()), ..Settings::default() };
        assert!(line("web1", &flags).starts_with("ssh -l b -p 22 "));
        let named = line("c@web1:99", &flags);
        assert!(named.starts_with("ssh -l c -p 99 ") && named.contains(" -- 10.0.0.7 "), "{named}");
        assert!(line("app", &none).starts_with("docker exec --interactive app_1 "), "{}", line("app", &none));
        assert!(inventory.target("box", &none).unwrap().is_local());
        let root = inventory.target("root1", &none).unwrap();
        assert_eq!(root.settings.becoming(), Some((crate::Become::Su, "admin")));
        assert_eq!(root.settings.via, ["bastion", "inner"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, text, why) in [
            ("h", "[web\n", "line 1"),
            ("h", "[web:nothing]\n", "line 1"),
            ("h", "[a:children]\nb\n[b:children]\na\n", "within itself"),
            ("h", "a b=1 'c\n", "line 1"),
            ("h", "a ansible_port=x\n", "ansible_port"),
            ("h", "a ansible_connection=winrm\n", "winrm"),
            ("h", "a ansible_host='{{ x }}'\n", "template"),
            ("h.toml", "[hosts.a]\nusr = 'x'\n", "user"),
            ("h.toml", "[hosts.a]\nport = 'x'\n", "port"),
            ("h.yml", "all: [a\n", "h.yml"),
            ("h.yml", "all: {host: {a: }}\n", "hosts"),
            ("h.json", "{", "h.json"),
            ("id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "--identity"),
            ("id.pub", "ssh-ed25519 AAAAC3 me@here\n", "--identity"),
        ] {
            let error = Inventory::parse(name, text)
                .and_then(|i| i.target("a", &Settings::default()).map(drop))
                .expect_err(text);
            assert!(error.0.contains(why), "{text}: {error}");
        }
        let inventory = Inventory::parse("h", "[web]\nweb01\n").unwrap();
        assert!(inventory.members("wbe").is_err_and(|e| e.0.contains("@web")));
        assert_eq!(inventory.closest("web1"), Some("web01"));
    }

    #[test]
    fn secrets_are_used_and_never_shown() {
        let text = "a ansible_password=hunter2 ansible_become_pass=hunter3\n";
        let inventory = Inventory::parse("h", text).unwrap();
        let target = inventory.target("a", &Settings::default()).unwrap();
        assert!(target.settings.passwords.ssh.is_some() && target.settings.passwords.r#become.is_some());
        let shown = format!("{inventory:?} {target:?} {:?}", inventory.variables("a"));
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn names_are_those_that_ansible_reads() {
        let text = "web2:2222 ansible_user=bob\nweb[3:4]:22\n[fe80::1]:7\n";
        let inventory = Inventory::parse("h", text).unwrap();
        assert_eq!(inventory.members("*").unwrap(), ["web2", "web3", "web4", "[fe80::1]"]);
        let target = |name: &str| inventory.target(name, &Settings::default()).unwrap();
        assert_eq!(target("web2").settings.port, Some(2222));
        assert!(target("local:web2").is_local() && target("local:web2").settings.user.is_none());
        let text = r#"{"all":{"hosts":{"h1":{"ansible_user":"bob"}},"children":{"web":{"hosts":{"w1":{}}},"ungrouped":{"hosts":{"h1":{}}}}}}"#;
        let inventory = Inventory::parse("h.json", text).unwrap();
        assert_eq!(user(&inventory, "h1"), "bob");
        assert_eq!(inventory.members("ungrouped").unwrap(), ["h1"]);
        // Groups that are nested by many ways are visited once.
        let mut text = String::from("[g0]\nh\n");
        for i in 0..40 {
            text +=
                &format!("[a{i}:children]\ng{i}\n[b{i}:children]\ng{i}\n[g{}:children]\na{i}\nb{i}\n", i + 1);
        }
        let inventory = Inventory::parse("h", &text).unwrap();
        assert_eq!(inventory.groups_of("h").len(), 121);
        assert_eq!(inventory.variables("h").len(), 0);
    }

    #[test]
    fn errors_show_no_secret() {
        for (name, text) in [
            ("h", "web1 ansible_password=it'shunter2\n"),
            ("h", "[web:vars]\nansible_password hunter2\n"),
            ("h.yml", "all:\n  vars:\n    ansible_password: hunter2\n    x: [\n"),
            ("h.toml", "[hosts.a]\nvars = { ansible_password = 'hunter2' }\nport = \n"),
        ] {
            let error = Inventory::parse(name, text).unwrap_err();
            assert!(!error.0.contains("hunter2"), "{error}");
        }
        let inventory = Inventory::parse(
            "h",
            "a ansible_ssh_password=hunter2 ansible_ssh_private_key_passphrase=hunter2\n",
        );
        assert!(inventory.unwrap().variables("a").is_empty());
    }

    #[test]
    fn plain_lists_are_inventories_too() {
        let inventory = Inventory::parse("h", "# mine\nn[1-3] n7\n\nm1,m2\n").unwrap();
        assert_eq!(inventory.members("*").unwrap(), ["n1", "n2", "n3", "n7", "m1", "m2"]);
    }

    #[test]
    fn a_hundred_thousand_hosts_are_no_trouble() {
        let mut text = String::from("[a]\n");
        for n in 0..100_000u32 {
            text += &format!("h{}x{n} k={n}\n", n * 7919 % 10_007);
        }
        let inventory = Inventory::parse("h", &text).unwrap();
        let settings = Settings::default();
        let selection = crate::Selection { specs: vec!["@a".into()], ..Default::default() };
        assert_eq!(selection.targets(&inventory, &settings).unwrap().len(), 100_000);
    }
}
