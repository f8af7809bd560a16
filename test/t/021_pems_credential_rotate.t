# The program pems-credential with a worker behind it: list, check, and rotate, which may be killed anywhere, run twice,
# run beside a set, and never leaves a credential that does not open.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use Fcntl qw(S_IMODE :flock);
use IPC::Run;
use JSON::PP;
use PemsSync::Test;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# Kills, and the organizations that a rotation seals meanwhile.
use constant { KILLS => 20, MANY => 30 };

my $program = $ENV{PEMS_CREDENTIAL} or die "PEMS_CREDENTIAL does not name the program\n";
my $id      = qr/[0-9a-f]{16}/;
my $nothing = qr/\A\z/;

# Two databases share the server's key file.
my $t = PemsSync::Test->new('rotate', databases => [ 'postgres', 'second' ],
    settings => { rate_limit => 0, poll_interval => '1h', retry_delay => '100ms', max_retries => 0 });
my $fake = $t->fake;
my $key_file = $t->key_file;
$t->add_organization('RIO');
$t->add_organization('LIMA');
$t->add_fake('second');
$t->add_organization('OSLO', fake => 'second', db => 'second');
$t->sql("INSERT INTO organization (id, code, name) VALUES ('org-none', 'NONE', 'without a credential')");
$t->sql('CREATE ROLE keeper LOGIN IN ROLE pems_sync_admin; CREATE ROLE app LOGIN IN ROLE pems_sync_user');

# ---------- helpers ----------

sub server { return ('-h', $t->node->host, '-p', $t->node->port, '-d', $_[0] // 'postgres') }

# Run the program against the server; returns exit status, standard output, standard error.
sub run_program
{
    my ($command, @arguments) = @_;
    my ($out, $err) = ('', '');
    IPC::Run::run([ $program, $command, @arguments ], '<', \'', '>', \$out, '2>', \$err);
    return ($? >> 8, $out, $err);
}

sub is_run
{
    my ($name, $result, $status, $out, $err) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($result->[0], $status, "$name: exit status") or diag("@$result[1, 2]");
    like($result->[1], $out, "$name: standard output");
    like($result->[2], $err // $nothing, "$name: standard error");
    return;
}

# The same, for at most so many seconds; the exit status is 124 when that was too short.
sub run_for
{
    my ($seconds, $command, @arguments) = @_;
    my ($out, $err) = ('', '');
    IPC::Run::run([ 'timeout', $seconds, $program, $command, @arguments ], '<', \"token-of-RIO\n", '>', \$out, '2>', \$err);
    return ($? >> 8, $out, $err);
}

sub rotate { return run_program('rotate', $key_file, server(), @_) }

# Begin a program and go on; finish() returns what run_program() does.
sub begin
{
    my ($input, @arguments) = @_;
    my $job = { in => $input, out => '', err => '' };
    $job->{handle} = IPC::Run::start([ $program, @arguments ], '<', \$job->{in}, '>', \$job->{out}, '2>', \$job->{err});
    return $job;
}

sub finish
{
    my ($job) = @_;
    IPC::Run::finish($job->{handle});
    return ($job->{handle}->full_result(0) >> 8, $job->{out}, $job->{err});
}

# Ids of the keys in the file, oldest first.
sub keys_in_file { my @lines = split /\n/, slurp_file($key_file); return map { /^($id) / } @lines[ 1 .. $#lines ] }

sub current_key { return (keys_in_file())[-1] }

# "code state key" of all credentials.
sub states
{
    my ($db) = @_;
    return $t->sql(q{SELECT string_agg(concat_ws(' ', organization_code, credential, key_id), ', ' ORDER BY organization_code)
        FROM pems_endpoints WHERE credential IS DISTINCT FROM 'no_credential'}, db => $db // 'postgres');
}

sub wait_all_open
{
    my ($name, $db) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $ok = ok($t->wait_for("SELECT bool_and(credential IS NOT DISTINCT FROM 'ok') FROM pems_endpoints WHERE credential IS DISTINCT FROM 'no_credential'",
            db => $db // 'postgres'), $name);
    diag(states($db)) if !$ok;
    return $ok;
}

# The line of one organization, as list prints it: its words.
sub listed
{
    my ($code, @more) = @_;
    my ($line) = grep { /^$code\b/ } split /\n/, (run_program('list', server(), @more))[1];
    return $line // '';
}

sub resealed { return $t->sql("SELECT count(*) FROM pems_audit_log WHERE event_type = 'CREDENTIAL_CHANGED' AND request ? 'resealedTo'") }

# ---------- list ----------

wait_all_open('the worker has opened all credentials');
my $first = current_key();
my @list = run_program('list', server(), '-U', 'keeper');
is_run('list', \@list, 0, qr/^LIMA\s.*^NONE\s.*^RIO\s/ms);
like($list[1], qr/^organization\s+credential\s+key\s+generation\s+set_by\s+set_at\s+url\s+problem/m, 'list has a heading');
like(listed('RIO'), qr/^RIO\s+ok\s+$first\s+1\s.*\Q@{[ $fake->url ]}\E/, 'list: ok');
like(listed('NONE'), qr/^NONE\s+no_credential\s*$/, 'list: no_credential');
is_run('list of one', [ run_program('list', '--organization', 'RIO', server()) ], 0, qr/\A(?!.*LIMA).*^RIO\s/ms);
is_run('list of an unknown one', [ run_program('list', '--organization', 'RI', server()) ], 1, $nothing, qr/no organization has the code "RI"/);
is_run('list with too much', [ run_program('list', 'RIO', server()) ], 2, $nothing, qr/too many arguments/);
is_run('list --help', [ run_program('list', '--help') ], 0, qr/refused_by_pems/);

$t->sql('SELECT pems_detach()');
is_run('list when not attached', [ run_program('list', server()) ], 1, $nothing, qr/not attached.*HINT:.*pems_attach/s);
$t->sql('SELECT pems_attach()');
ok($t->wait_worker, 'attached again');

# A row that was copied from another organization.
$t->sql(<<'SQL');
CREATE TABLE spare AS SELECT * FROM pems_credential WHERE organization_id = 'org-lima';
UPDATE pems_credential l SET sealed_token = r.sealed_token FROM pems_credential r WHERE l.organization_id = 'org-lima' AND r.organization_id = 'org-rio';
SELECT _pems_wake(true);
SQL
ok($t->wait_for("SELECT credential = 'cannot_open' FROM pems_endpoints WHERE organization_code = 'LIMA'"), 'a copied row cannot be opened');
like(listed('LIMA'), qr/^LIMA\s+cannot_open\s.*damaged, or sealed for another/, 'list: cannot_open');
like($t->sql(q{SELECT _pems_why_not_sent('org-lima')}), qr/^The credential of the organization cannot be opened: .*damaged, or sealed for another/, 'pems_sync_state() says so, too');
is_run('check of it', [ run_program('check', '--organization', 'LIMA', server()) ], 1, qr/\ALIMA: Its credential does not open: .*\n\z/);
is_run('rotate with it', [ rotate() ], 1, qr/^1 credential sealed to it$/m, qr/credential of LIMA does not open.*set it again.*old keys stay/s);
isnt(current_key(), $first, 'the other is on the new key');
like(states(), qr/RIO \S* ?@{[ current_key() ]}/, 'and says so');

# Sealed to a key that is not in the file.
$t->sql(q{UPDATE pems_credential SET key_id = '0123456789abcdef' WHERE organization_id = 'org-lima'; SELECT _pems_wake(true)});
ok($t->wait_for("SELECT credential = 'no_key' FROM pems_endpoints WHERE organization_code = 'LIMA'"), 'a row that names another key has none');
like(listed('LIMA'), qr/^LIMA\s+no_key\s.*not in the key file/, 'list: no_key');
$t->sql(q{UPDATE pems_credential c SET sealed_token = s.sealed_token, key_id = s.key_id FROM spare s WHERE c.organization_id = s.organization_id;
    DROP TABLE spare; SELECT _pems_wake(true)});
wait_all_open('put right again');

# ---------- check ----------

is_run('check', [ run_program('check', server(), '-U', 'keeper') ], 0, qr/\ALIMA: ok, [0-9.]+ ms\nRIO: ok, [0-9.]+ ms\n\z/);
is_run('check of one without a credential', [ run_program('check', '--organization', 'NONE', server()) ], 1, qr/\ANONE: The organization has no credential for PEMS\.\n\z/);
is_run('check of an unknown one', [ run_program('check', '--organization', 'nobody', server()) ], 1, $nothing, qr/no organization has the code/);
is_run('check by a role of the application', [ run_program('check', server(), '-U', 'app') ], 1, $nothing, qr/permission denied.*HINT:.*GRANT pems_sync_admin TO "app".*pems_sync_reader/s);
my ($fault) = $fake->fault({ call => 'health', status => 503 });
is_run('check of a PEMS that is ill', [ run_program('check', server()) ], 1, qr/^LIMA: (?!ok).+\nRIO: (?!ok).+503/m);
$fake->clear_faults($fault);
my $port = $t->fake('second')->port;
$t->fake('second')->stop;
is_run('check of a dead PEMS', [ run_program('check', server('second')) ], 1, qr/\AOSLO: (?!ok).+\n\z/);
$t->add_fake('second', port => $port);

# PEMS refuses a token: an edit pauses the organization, and check says so, too.
$fake->add_organization('LIMA', 'another-token');
$t->load('LIMA', 'PFA-1');
my $refused = $t->commit_edit('LIMA', 'PFA-1', { monthlyRate => 1 });
ok($t->wait_for("SELECT credential = 'refused_by_pems' FROM pems_endpoints WHERE organization_code = 'LIMA'"), 'PEMS refuses a token');
like(listed('LIMA'), qr/^LIMA\s+refused_by_pems\s/, 'list: refused_by_pems');
is_run('check with it', [ run_program('check', '--organization', 'LIMA', server()) ], 1, qr/\ALIMA: .*401/);
for my $output (map { (run_program($_, server()))[ 1, 2 ] } qw(list check))
{
    unlike($output, qr/token-of|another-token/, 'neither list nor check shows a token');
}

# ---------- rotate ----------

# Edits that are under way meanwhile: slow enough for many to be in flight.
my @pfa_ids = $t->load_many('RIO', 'PFA-', 60);
my ($slow) = $fake->fault({ organizationCode => 'RIO', delayMs => 150 });
my $position = $t->log_position;
my $old      = current_key();
my ($before, $count) = (resealed(), scalar keys_in_file());
my @ids = $t->edits('RIO', map { [ $_, { monthlyRate => 2 } ] } @pfa_ids);
$t->commit('RIO', \@ids);
ok($t->wait_until(sub { $fake->stats->{waiting} > 0 }, what => 'requests'), 'edits are under way');
is_run('rotate', [ rotate('-U', 'keeper') ], 0, qr/\Akey ($id) added to the key file\n2 credentials sealed to it\n\z/);
ok($t->wait_for("SELECT count(*) = 60 FROM pfa_modification WHERE id LIKE 'm-rio-%' AND sync_status = 'synced'"), 'edits go on');
is($t->sql("SELECT max(attempt) || ' ' || max(retry_count) FROM pfa_write_queue WHERE organization_id = 'org-rio'"), '1 0', 'each was sent once');
unlike($t->log_since($position), qr/WARNING|ERROR/, 'nothing went wrong meanwhile');
$fake->clear_faults($slow);

isnt(current_key(), $old, 'there is a new key');
is(scalar keys_in_file(), $count + 1, 'the old ones are in the file still');
is($t->sql("SELECT DISTINCT key_id FROM pems_credential"), current_key(), 'all rows are on the new key');
my @status = lstat $key_file;
ok(!-e "$key_file.lock", 'no lock file is left beside it');
is(sprintf('%04o %d', S_IMODE($status[2]), $status[4]), sprintf('0400 %d', $>), 'mode and owner of the key file');
ok(!-e "$key_file.new", 'nothing is left beside it');
is(resealed() - $before, 2, 'the audit log has a line for each');
is($t->sql(q{SELECT DISTINCT a.actor || ' ' || (a.request->>'before') || ' ' || (a.request->>'resealedTo') FROM pems_audit_log a
    WHERE a.organization_id = 'org-rio' AND a.request->>'resealedTo' = '} . current_key() . q{'}), "keeper $old " . current_key(), 'with who, from which key and to which');
is($t->sql("SELECT string_agg(generation::text, ' ') FROM pems_credential"), '1 1', 'the generations stay');
ok($t->wait_for("SELECT state = 'ok' FROM pems_credential WHERE organization_id = 'org-rio'"), 'it opens with the new key');
like(listed('LIMA'), qr/^LIMA\s+refused_by_pems\s/, 'what PEMS refused stays paused');
is($t->item($refused)->{attempt}, 1, 'and is not tried again');
$fake->add_organization('LIMA', 'token-of-LIMA');
$t->set_credential('LIMA', 'token-of-LIMA');
ok($t->wait_status($refused, 'synced'), 'until it has a new one');

# ---------- what is refused ----------

my $unchanged = slurp_file($key_file);
my $rows      = $t->sql('SELECT string_agg(c::text, E\'\n\' ORDER BY organization_id) FROM (SELECT organization_id, sealed_token, key_id FROM pems_credential) c');
my $other     = $t->directory . '/other-keyring';
$t->run_program('', 'keygen', $other);
is_run('rotate of another key file', [ run_program('rotate', $other, server()) ], 1, $nothing, qr/the server uses another key file: its key is $id, that of "\Q$other\E" is $id/);
is(scalar(() = slurp_file($other) =~ /^$id /mg), 1, 'that file is as it was');
is_run('rotate of no file', [ run_program('rotate', "$other-none", server()) ], 1, $nothing, qr/does not exist/);
is_run('rotate by a role of the application', [ rotate('-U', 'app') ], 1, $nothing, qr/permission denied/);
is_run('rotate without a file', [ run_program('rotate', server()) ], 2, $nothing, qr/needs the name of the key file/);
chmod 0440, $key_file or die $!;
is_run('rotate of a file for the group', [ rotate() ], 1, $nothing, qr/chmod 0400/);
chmod 0400, $key_file or die $!;
# Not readable for who runs it: as if it belonged to somebody else.
chmod 0000, $key_file or die $!;
is_run('rotate by the wrong user', [ rotate() ], 1, $nothing, qr/may not be opened by user id \d+/);
chmod 0400, $key_file or die $!;
is(slurp_file($key_file), $unchanged, 'the key file is as it was');
is($t->sql('SELECT string_agg(c::text, E\'\n\' ORDER BY organization_id) FROM (SELECT organization_id, sealed_token, key_id FROM pems_credential) c'), $rows, 'and so are the rows');

# ---------- --drop-old-keys ----------

my $of_second = $t->sql('SELECT key_id FROM pems_credential', db => 'second');
my $superfluous = grep { $_ ne $of_second } keys_in_file();
is_run('rotate --drop-old-keys', [ rotate('--drop-old-keys') ], 0, qr/^2 credentials sealed to it\ndropped $superfluous old keys from the key file\n\z/m);
is(join(' ', keys_in_file()), join(' ', $of_second, current_key()), 'what another database needs stays, and the current one');
is($t->sql('SELECT DISTINCT key_id FROM pems_credential'), current_key(), 'all rows are on it');
wait_all_open('they open');
$t->sql('SELECT _pems_wake(true)', db => 'second');
wait_all_open('and so do those of the other database', 'second');
is_run('rotate of the other database', [ run_program('rotate', $key_file, server('second'), '--drop-old-keys') ], 0, qr/^dropped 1 old key from the key file$/m);
is(scalar keys_in_file(), 2, 'again each has what it needs');

# A database that cannot be asked: nothing is dropped.
$t->sql('REVOKE CONNECT ON DATABASE second FROM PUBLIC');
$count = keys_in_file();
is_run('rotate when a database cannot be asked', [ rotate('--drop-old-keys', '-U', 'keeper') ], 1, $nothing, qr/what database "second" needs is not known.*old keys stay/s);
is(scalar keys_in_file(), $count, 'nothing was dropped');
$t->sql('GRANT CONNECT ON DATABASE second TO PUBLIC');

# ---------- several at once ----------

for my $number (1 .. MANY)
{
    my $code = sprintf 'MANY%02d', $number;
    $t->sql("INSERT INTO organization (id, code, name) VALUES ('org-" . lc($code) . "', '$code', 'one of many')");
    $fake->add_organization($code, "token-of-$code");
}
my @jobs = map { begin("token-of-$_\n", 'set', '--organization', $_, '--url', $fake->url, server()) } map { sprintf 'MANY%02d', $_ } 1 .. MANY;
is(join(' ', map { (finish($_))[0] } @jobs), join(' ', (0) x MANY), MANY . ' organizations more');
@jobs = map { begin('', 'rotate', $key_file, server(), '--drop-old-keys') } 1 .. 2;
my @results = map { [ finish($_) ] } @jobs;
is("$results[0][0] $results[1][0]", '0 0', 'two rotations at once both succeed');
like($results[0][2] . $results[1][2], qr/\A(?:pems-credential: another rotation is under way; waiting for its end\n)?\z/, 'one waits for the other');
wait_all_open('every row opens');
is($t->sql('SELECT DISTINCT key_id FROM pems_credential'), current_key(), 'on the newest key');

# Sets beside a rotation that drops keys: each either is stored and opens, or says that it was not.
my $generations = $t->sql('SELECT sum(generation) FROM pems_credential');
my $stored = 0;
for my $round (1 .. 3)
{
    my $rotation = begin('', 'rotate', $key_file, server(), '--drop-old-keys');
    my @sets = map { begin("token-of-$_\n", 'set', '--organization', $_, '--url', $fake->url, server()) } map { sprintf 'MANY%02d', $_ } 1 .. 8;
    for (map { [ finish($_) ] } @sets)
    {
        $stored += $_->[0] == 0;
        like($_->[2], $_->[0] == 0 ? $nothing : qr/key was changed at the same time; try again/, 'a set beside a rotation is stored, or says why not');
    }
    my ($status, $out, $err) = finish($rotation);
    is($status, 0, 'the rotation succeeds') or diag($err);
}
is($t->sql('SELECT sum(generation) FROM pems_credential'), $generations + $stored, 'what was said is what was done');
wait_all_open('every row opens after sets and rotations');

# ---------- locks that others hold ----------

# Whoever may read the directory may lock it; that is no lock of ours.
my ($directory) = $key_file =~ m{(.*)/};
open my $locked, '<', $directory or die "$directory: $!";
flock $locked, LOCK_EX or die $!;
is_run('rotate in a directory that somebody has locked', [ run_for(60, 'rotate', $key_file, server()) ], 0, qr/sealed to it/);
close $locked;
ok(!-e "$key_file.lock", 'no lock file is left');

# A lock file that others could lock, or that is none.
for my $case (
    [ 'a link', sub { symlink "$directory/elsewhere", $_[0] or die $! }, qr/lock.*could not be opened/ ],
    [ 'a second name', sub { append_to_file("$_[0].other", ''); chmod 0600, "$_[0].other"; link "$_[0].other", $_[0] or die $! }, qr/"\Q$key_file\E\.lock" is not a plain file of the user who runs this.*no other name/ ],
    [ 'a directory', sub { mkdir $_[0] or die $! }, qr/lock.*could not be opened/ ],
    [ 'a fifo', sub { POSIX::mkfifo($_[0], 0600) or die $! }, qr/is not a plain file/ ],
    [ 'a file for all', sub { append_to_file($_[0], ''); chmod 0644, $_[0] or die $! }, qr/mode 0600/ ])
{
    my ($what, $make, $err) = @$case;
    $make->("$key_file.lock");
    my $before = current_key();
    is_run("rotate when the lock file is $what", [ run_for(60, 'rotate', $key_file, server()) ], 1, $nothing, $err);
    is(current_key(), $before, "rotate when the lock file is $what: nothing was changed");
    -d "$key_file.lock" ? rmdir "$key_file.lock" : unlink "$key_file.lock";
}
ok(!-e "$directory/elsewhere", 'the link was not followed');

# Another rotation that does not end.  One that was killed leaves the file, and no lock.
append_to_file("$key_file.lock", '');
chmod 0600, "$key_file.lock" or die $!;
is_run('rotate beside the lock file of one that was killed', [ run_for(60, 'rotate', $key_file, server()) ], 0, qr/sealed to it/);
append_to_file("$key_file.lock", '');
chmod 0600, "$key_file.lock" or die $!;
open $locked, '<', "$key_file.lock" or die $!;
flock $locked, LOCK_EX or die $!;
my $begin = time;
is_run('rotate beside one that does not end', [ run_for(60, 'rotate', $key_file, server()) ], 1, $nothing,
    qr/another rotation is under way.*gave up after 10 s: "\Q$key_file\E\.lock" is locked.*HINT:.*fuser/s);
cmp_ok(time - $begin, '>', 9, 'it waited for a while');
close $locked;
unlink "$key_file.lock";

# An advisory lock can be taken by anybody, under any number.
my $stranger = $t->node->background_psql('postgres', extra_params => [ '-U', 'app' ]);
$stranger->query("SELECT pg_advisory_lock(hashtextextended('pems_credential ' || o, 0)) FROM unnest(ARRAY['org-rio', 'org-lima']) o");
my @set = ('set', '--organization', 'RIO', '--url', $fake->url, server());
is_run('set beside an advisory lock', [ run_for(60, @set) ], 0, qr/^credential for RIO set/);
is_run('rotate beside an advisory lock', [ run_for(60, 'rotate', $key_file, server()) ], 0, qr/sealed to it/);
for my $table (qw(pems_control pems_credential))
{
    like($t->sql_error("SET ROLE app; SELECT FROM $table FOR NO KEY UPDATE"), qr/^42501/, "what is locked cannot be locked by others: a row of $table");
    like($t->sql_error("SET ROLE app; BEGIN; LOCK TABLE $table IN ACCESS SHARE MODE"), qr/^42501/, "what is locked cannot be locked by others: $table");
}
$stranger->quit;

# An administrator may lock the credentials, and a superuser all.  Both are waited for, not for ever, and who waits says for what.
my $keeper = $t->node->background_psql('postgres', extra_params => [ '-U', 'keeper' ]);
my $pid = $keeper->query_safe(q{BEGIN; SELECT pg_backend_pid() FROM _pems_credential_target('LIMA')});
is_run('set beside one that does not end', [ run_for(60, @set) ], 1, $nothing,
    qr/another session has locked the credentials\nDETAIL:.*It is process $pid\.\nHINT:.*Try again/);
like($t->sql_error(q{SELECT pems_set_credential('org-rio', '} . $fake->url . q{', decode(repeat('00', 48), 'hex'), '0123456789abcdef')}),
    qr/^55000: another session has locked the credentials/, 'pems_set_credential() says the same');
$keeper->query_safe('ROLLBACK');
is_run('set, when it has ended', [ run_for(60, @set) ], 0, qr/^credential for RIO set/);
$keeper->quit;

my $super = $t->node->background_psql('postgres');
$super->query_safe('BEGIN; LOCK TABLE pems_credential IN EXCLUSIVE MODE');
$pid = $super->query_safe('SELECT pg_backend_pid()');
is_run('set beside a locked table', [ run_for(60, @set) ], 1, $nothing, qr/another session has locked the credentials.*It is process $pid\./s);
is_run('rotate --drop-old-keys beside a locked table', [ run_for(60, 'rotate', $key_file, server(), '--drop-old-keys') ], 1, $nothing,
    qr/another session has locked the credentials.*the old keys stay/s);
$super->query_safe('ROLLBACK; BEGIN; LOCK TABLE organization');
is_run('set beside a locked table of the application', [ run_for(60, @set) ], 1, $nothing,
    qr/waited 10s for a lock that another session holds, to run: SELECT .*_pems_credential_target\(\$1\)\nHINT:.*pg_blocking_pids/);
is_run('list beside a locked table of the application', [ run_for(60, 'list', server()) ], 1, $nothing,
    qr/waited 10s for a lock that another session holds, to run: SELECT .*pems_endpoints/);
$super->query_safe('ROLLBACK');
$super->quit;
wait_all_open('every row opens after all these locks');

# ---------- killed ----------

# Half of them from the start on, half from the moment on in which the rows follow.
my ($killed, $ended) = (0, 0);
for my $kill (1 .. KILLS)
{
    my $rotation = begin('', 'rotate', $key_file, server(), $kill % 3 ? () : '--drop-old-keys');
    if ($kill % 2)
    {
        IPC::Run::pump($rotation->{handle}) while $rotation->{out} !~ /added/ && IPC::Run::pumpable($rotation->{handle});
    }
    sleep((1 + int rand 50) / 1000);
    $rotation->{handle}->signal('KILL');
    finish($rotation);
    $rotation->{out} =~ /sealed to it/ ? $ended++ : $killed++;
}
note("$killed killed in the middle, $ended had sealed all");
cmp_ok($killed, '>', 0, 'rotations were killed in the middle');
$t->sql('SELECT _pems_wake(true)');
wait_all_open('every row opens after ' . KILLS . ' kills');
is($t->sql('SELECT count(*) FROM pems_credential WHERE key_id <> ALL (' . PemsSync::Test::text_array([ keys_in_file() ]) . ')'), '0', 'the key of each row is in the file');
$t->sql('SELECT _pems_wake(true)', db => 'second');
wait_all_open('those of the other database, too', 'second');
is_run('the last rotation', [ rotate('--drop-old-keys') ], 0, qr/^\Q@{[ MANY + 2 ]}\E credentials sealed to it\ndropped \d+ old keys? from the key file\n\z/m);
is(scalar keys_in_file(), 2, 'leaves the new key, and that of the other database');
wait_all_open('every row opens with them');

# A file that is full.
my $line = 0;
$line++ while $line < 100 && (rotate())[0] == 0;
cmp_ok(scalar(keys_in_file()), '==', 64, 'a key file takes 64 keys');
is_run('rotate of a full key file', [ rotate() ], 1, $nothing, qr/has 64 keys already; drop old ones with pems-credential rotate --drop-old-keys/);
is_run('rotate --drop-old-keys of it', [ rotate('--drop-old-keys') ], 0, qr/^dropped 63 old keys from the key file$/m);
wait_all_open('every row opens after all');
is_run('check of all', [ run_program('check', server()) ], 0, qr/\A(?:\S+: ok, [0-9.]+ ms\n){@{[ MANY + 2 ]}}\z/);

unlike($t->log_since(0), qr/token-of|another-token/, 'the log shows no token');
$t->finish;
