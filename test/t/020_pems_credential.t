# The program pems-credential against a server: key files, sealed credentials, and
# no trace of a token in logs, rows or files.
#
# PEMS_CREDENTIAL names the program.  The extension must be installed.
use strict;
use warnings;

use Cwd qw(abs_path);
use Fcntl qw(S_IMODE);
use IPC::Run;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $program = $ENV{PEMS_CREDENTIAL} or die "PEMS_CREDENTIAL does not name the program\n";
my $keys    = abs_path(PostgreSQL::Test::Utils::tempdir);
my $url     = 'https://pems.example.com/api';
my $id      = qr/[0-9a-f]{16}/;

# Run the program; returns exit status, standard output, standard error.
sub run_program
{
    my ($input, @arguments) = @_;
    my ($out, $err) = ('', '');
    IPC::Run::run([ $program, @arguments ], '<', \$input, '>', \$out, '2>', \$err);
    return ($? >> 8, $out, $err);
}

sub is_run
{
    my ($name, $result, $status, $out, $err) = @_;
    is($result->[0], $status, "$name: exit status") or diag("@$result[1, 2]");
    like($result->[1], $out, "$name: standard output");
    like($result->[2], $err, "$name: standard error");
    return;
}

my $nothing = qr/\A\z/;

# ---- how it is built ----

# As Debian builds what handles secrets: code at addresses that nobody knows beforehand, tables of addresses that cannot be
# written, guards on the stack, and functions that check sizes.
SKIP:
{
    my ($header, $segments, $dynamic, $symbols) = map { scalar `readelf -W $_ '$program' 2>/dev/null` } qw(-h -l -d -s);
    skip 'no readelf, or no ELF', 6 if $header !~ /ELF/;
    like($header, qr/Type:\s+DYN/, 'built as a position-independent program');
    like($dynamic, qr/FLAGS_1.*\bPIE\b/, 'built as a program, not a library');
    like($segments, qr/GNU_RELRO/, 'relocations are read-only');
    like($dynamic, qr/BIND_NOW|FLAGS_1.*\bNOW\b/, 'all of them, from the start on');
    like($symbols, qr/__stack_chk_fail/, 'the stack is guarded');
    like($symbols, qr/__\w+_chk\b(?<!__stack_chk)/, 'sizes are checked');
}

# ---- without a server ----

is_run('--help', [ run_program('', '--help') ], 0, qr/keygen.*set/s, $nothing);
is_run('set --help', [ run_program('', 'set', '--help') ], 0, qr/--organization CODE/, $nothing);
is_run('--version', [ run_program('', '--version') ], 0, qr/^pems-credential \(pems_sync\) \S+$/, $nothing);
is_run('no command', [ run_program('') ], 2, $nothing, qr/a command is missing/);
is_run('unknown command', [ run_program('', 'steal') ], 2, $nothing, qr/no such command/);
is_run('set without options', [ run_program('', 'set') ], 2, $nothing, qr/needs --organization and --url/);
is_run('keygen without a file', [ run_program('', 'keygen') ], 2, $nothing, qr/needs the name of one file/);

# What somebody takes for the way to give a token is not repeated, either.
for my $attempt ([ 'secret-argument' ], [ '--token=secret-argument' ], [ '--token', 'secret-argument' ])
{
    my @result = run_program('', 'set', '--organization', 'RIO', '--url', $url, @$attempt);
    is_run("set with @$attempt", \@result, 2, $nothing, qr/too many arguments|unknown option --token/);
    unlike("@result", qr/secret-argument/, "set with @$attempt: not repeated");
}

# ---- keygen ----

my $key_file = "$keys/it's a keyring";
my @made     = run_program('', 'keygen', $key_file);
is_run('keygen', \@made, 0, qr/pems_sync\.key_file = '\Q$keys\E\/it''s a keyring'/, $nothing);
my @status = lstat $key_file;
ok(-f _, 'the key file is a plain file');
is(sprintf('%04o', S_IMODE($status[2])), '0400', 'its mode');
is($status[4], $>, 'its owner');
my $keyring = slurp_file($key_file);
like($keyring, qr/\Apems_sync keyring 1\n($id) [A-Za-z0-9+\/]{43}=\n\z/, 'its text');
my ($key_id, $secret) = $keyring =~ /^(\S{16}) (\S+)$/m;
unlike("@made", qr/\Q$secret\E/, 'keygen does not show the key');

is_run('keygen again', [ run_program('', 'keygen', $key_file) ], 1, $nothing, qr/exists already/);
is(slurp_file($key_file), $keyring, 'the key file is as before');
symlink "$keys/nowhere", "$keys/link" or die $!;
is_run('keygen through a link', [ run_program('', 'keygen', "$keys/link") ], 1, $nothing, qr/exists already/);
ok(!-e "$keys/nowhere", 'the link was not followed');
is_run('keygen in no directory', [ run_program('', 'keygen', "$keys/no/key") ],
    1, $nothing, qr/could not be created: No such file/);
is_run('keygen for nobody', [ run_program('', 'keygen', "$keys/key2", '--owner', 'no such user') ],
    1, $nothing, qr/there is no user "no such user"/);
ok(!-e "$keys/key2", 'no file for nobody');

# ---- a server ----

my $node = PostgreSQL::Test::Cluster->new('credential');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'pems_sync'
pems_sync.allowed_hosts = 'pems.example.com'
log_statement = all
log_min_messages = debug5
log_min_error_statement = debug5
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_connections = on
CONF
$node->start;
my @server = ('-h', $node->host, '-p', $node->port, '-d', 'postgres');

# Set for an organization: the token on standard input.
sub set_credential
{
    my ($token, $organization, @more) = @_;
    return run_program($token, 'set', '--organization', $organization, '--url', $url, @server, @more);
}

# What a statement fails with: "SQLSTATE message".
sub sql_error
{
    my ($statement) = @_;
    my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
    return $err =~ /ERROR:\s+(.*)/ ? $1 : "no error: $out";
}

sub set_key_file
{
    my ($value) = @_;
    (my $quoted = $value) =~ s/'/''/g;
    $node->safe_psql('postgres', "ALTER SYSTEM SET pems_sync.key_file = '$quoted'");
    $node->reload;
    $node->poll_query_until('postgres', "SELECT current_setting('pems_sync.key_file') = '$quoted'")
      or die 'the setting did not take effect';
    return;
}

is_run('set without the extension', [ set_credential("t\n", 'RIO') ],
    1, $nothing, qr/does not have the extension pems_sync.*HINT:.*CREATE EXTENSION/s);

# A schema that needs quotes.
$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA "Pems Sync";
SET search_path = "Pems Sync";
CREATE EXTENSION pems_sync SCHEMA "Pems Sync";
SELECT "Pems Sync".pems_attach(create_missing => true);
INSERT INTO "Pems Sync".organization (id, code, name) VALUES ('org-rio', 'RIO', 'Rio'), ('org-2', 'RIO2', 'Rio 2'),
    ('org-u', U&'R\00CDO', 'accented');
CREATE ROLE keeper LOGIN IN ROLE pems_sync_admin;
CREATE ROLE app LOGIN IN ROLE pems_sync_user;
GRANT USAGE ON SCHEMA "Pems Sync" TO keeper, app;
SQL
my $table = '"Pems Sync".pems_credential';
my $count = "SELECT count(*) FROM $table";
my $public_key = 'SELECT "Pems Sync".pems_public_key();';

# ---- the key file as the server sees it ----

like(sql_error($public_key), qr/^55000: /, 'no key file is configured');
is_run('set without a key file', [ set_credential("t\n", 'RIO') ],
    1, $nothing, qr/pems_sync\.key_file|no key file/);
set_key_file("$keys/missing");
like(sql_error($public_key), qr/^55000: /, 'the key file is missing');
is_run('set with a missing key file', [ set_credential("t\n", 'RIO') ],
    1, $nothing, qr/missing" does not exist.*keygen/s);
set_key_file("$keys/link2");
symlink $key_file, "$keys/link2" or die $!;
is_run('set with a link as key file', [ set_credential("t\n", 'RIO') ], 1, $nothing, qr/\A(?!.*keygen).*is a symbolic link.*HINT:/s);
set_key_file($key_file);
chmod 0440, $key_file or die $!;
like(sql_error($public_key), qr/^55000: /, 'the group may read the key file');
is_run('set with a key file for the group', [ set_credential("t\n", 'RIO') ], 1, $nothing, qr/\A(?!.*keygen).*chmod 0400.*HINT:/s);
chmod 0400, $key_file or die $!;
is($node->safe_psql('postgres', $count), '0', 'nothing was stored so far');
my $public = $node->safe_psql('postgres', qq{SELECT k->>'keyId', length(decode(k->>'publicKey', 'base64')),
    (SELECT count(*) FROM jsonb_object_keys(k)) FROM "Pems Sync".pems_public_key() k});
is($public, "$key_id|32|2", 'pems_public_key');

# ---- set ----

my @canaries = map { "CANARY-$_-" . join('', map { ('a' .. 'z')[ rand 26 ] } 1 .. 24) } 1 .. 4;

is_run('set', [ set_credential("$canaries[0]\n", 'RIO') ],
    0, qr/\Acredential for RIO set \(key $key_id, generation 1\)\n\z/, $nothing);
my $row = "SELECT organization_id, api_url, key_id, generation, set_by FROM $table WHERE organization_id = 'org-rio'";
my $user = $node->safe_psql('postgres', 'SELECT current_user');
is($node->safe_psql('postgres', $row), "org-rio|$url|$key_id|1|$user", 'the row');
is_run('set again', [ set_credential("$canaries[1]\nnext line\n", 'RIO', '--set-by', 'alice@example.com') ],
    0, qr/generation 2\)/, $nothing);
is($node->safe_psql('postgres', $row), "org-rio|$url|$key_id|2|alice\@example.com", 'the row is replaced');
is_run('set without a line end', [ set_credential($canaries[2], "R\xc3\x8dO", '-U', 'keeper') ],
    0, qr/\Acredential for R\xc3\x8dO set \(key $key_id, generation 1\)\n\z/, $nothing);
is($node->safe_psql('postgres', "SELECT set_by FROM $table WHERE organization_id = 'org-u'"),
    'keeper', 'an administrator who is no superuser');
is( $node->safe_psql('postgres',
        q{SELECT count(*) FROM "Pems Sync".pems_audit_log WHERE event_type = 'CREDENTIAL_CHANGED'}),
    '3', 'the audit log');

# ---- what is refused ----

is_run('an unknown organization', [ set_credential("$canaries[3]\n", 'RIO-none') ],
    1, $nothing, qr/no organization has the code "RIO-none"/);
is_run('a role of the application', [ set_credential("$canaries[3]\n", 'RIO', '-U', 'app') ],
    1, $nothing, qr/permission denied.*HINT:.*GRANT pems_sync_admin TO "app"/s);
is_run('a host that is not allowed',
    [ run_program("$canaries[3]\n", 'set', '--organization', 'RIO', '--url', 'https://evil.example', @server) ],
    1, $nothing, qr/evil\.example|allowed_hosts/);
is_run('an organization with SQL in its name', [ set_credential("$canaries[3]\n", q{RIO'; DROP TABLE x; --}) ],
    1, $nothing, qr/no organization has the code/);
is_run('no database', [ run_program('t', 'set', '--organization', 'RIO', '--url', $url, @server, '-d', 'nowhere') ],
    1, $nothing, qr/database "nowhere" does not exist/);
for my $case (
    [ 'an empty line', "\n", qr/the token is empty/ ],
    [ 'no line', '', qr/no token on standard input/ ],
    [ 'a carriage return', "$canaries[3]\r\n", qr/control character/ ],
    [ 'a tab', "a\tb\n", qr/control character/ ],
    [ 'a NUL', "a\0b\n", qr/NUL/ ],
    [ 'a pasted header', "Bearer $canaries[3]\n", qr/a space/ ],
    [ '4097 bytes', 'x' x 4097, qr/longer than 4096 bytes/ ])
{
    my ($name, $token, $error) = @$case;
    is_run("a token with $name", [ set_credential($token, 'RIO') ], 1, $nothing, $error);
}
is($node->safe_psql('postgres', $row), "org-rio|$url|$key_id|2|alice\@example.com", 'the row is as before');
is_run('a token of 4096 bytes', [ set_credential('x' x 4096, 'RIO2') ], 0, qr/generation 1\)/, $nothing);

# Two at once: one waits for the other, and each row that results is whole.
my @jobs = map {
    my ($in, $out, $err) = ("token-$_\n", '', '');
    {   handle => IPC::Run::start([ $program, 'set', '--organization', 'RIO2', '--url', $url, @server ],
            '<', \$in, '>', \$out, '2>', \$err), out => \$out, err => \$err }
} 1 .. 4;
IPC::Run::finish($_->{handle}) for @jobs;
is(join(' ', sort map { ${ $_->{out} } =~ /generation (\d+)/ ? $1 : ${ $_->{err} } } @jobs),
    '2 3 4 5', 'four at once get a generation each');

# ---- no trace of a token ----

$node->safe_psql('postgres', 'CHECKPOINT');
my $dump = "$keys/dump.sql";
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');
$node->stop;

# Every file of the server, and the dump.
my @files;
my @queue = ($node->data_dir, $node->logfile, $dump);
while (defined(my $path = shift @queue))
{
    if (-d $path && !-l $path)
    {
        opendir my $directory, $path or die "$path: $!";
        push @queue, map { "$path/$_" } grep { !/\A\.\.?\z/ } readdir $directory;
    }
    elsif (-f $path)
    {
        push @files, $path;
    }
}

# The files, without their directories, that hold one of the texts: plain, in hexadecimal or base64.
sub files_with
{
    my @forms = map { quotemeta } map { ($_, unpack('H*', $_), encode_base64($_, '')) } @_;
    my $pattern = join '|', @forms;
    return join ' ', map { s{.*/}{}r } grep { slurp_file($_) =~ /$pattern/i } @files;
}

is(files_with(@canaries, $secret), '', 'no token and no secret key in ' . @files . ' data files, WAL, log and dump');
# What may be known is found, so the search does search.
like(files_with($key_id), qr/\bdump\.sql\b/, 'the key id in the dump');
like(files_with($key_id), qr/\b[0-9A-F]{24}\b/, 'the key id in the WAL');
like(files_with($key_id), qr/\.log\b/, 'the key id in the log');
like(slurp_file($node->logfile), qr/pems_set_credential/, 'the log has the call');

done_testing();
