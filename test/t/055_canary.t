# Tokens that can be found: after everything that a server does with credentials, with all that it can log switched
# on, they are nowhere: not in logs, statistics, views, notifications, data files, WAL, dumps, base backups, nor in what
# a worker leaves behind that dies with core dumps allowed.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use IPC::Run;
use JSON::PP;
use PemsSync::Test;
use PemsSync::Traces qw(files_below files_with);
use PostgreSQL::Test::Utils;
use Test::More;

sub canary { my ($name) = @_; return "CANARY/$name+" . join '', map { ('a' .. 'z', 0 .. 9)[ rand 36 ] } 1 .. 32 }

my %token  = map { $_ => canary($_) } qw(first second wrong echoed);
my $seen   = 'SEEN' . join '', map { ('a' .. 'z')[ rand 26 ] } 1 .. 24; # to show that the search finds things
my @loaded = qw(pems_sync pg_stat_statements auto_explain);

my $t = PemsSync::Test->new('canary', init => { allows_streaming => 1 }, settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 1 }, conf => <<"CONF");
shared_preload_libraries = '${\join ', ', @loaded}'
log_statement = all
log_min_messages = debug5
log_min_error_statement = debug5
log_error_verbosity = verbose
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_connections = on
log_lock_waits = on
log_temp_files = 0
track_activity_query_size = 16384
pg_stat_statements.track = all
pg_stat_statements.track_utility = on
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_verbose = on
auto_explain.log_nested_statements = on
CONF
$t->sql('CREATE EXTENSION pg_stat_statements');
is($t->sql('SHOW log_statement') . ' ' . $t->sql('SHOW log_min_messages'), 'all debug5', 'the server logs all that it can');

my $directory = $t->directory;
my $node      = $t->node;
my @server    = ('-h', $node->host, '-p', $node->port, '-d', 'postgres');
my $key_file  = $t->key_file;
$t->add_organization('RIO', token => $token{first});
$t->add_organization('PERTH', token => $token{echoed});
$t->load('RIO', map { "PFA-$_" } 1 .. 9);
$t->load('PERTH', 'PFA-1', 'PFA-2', 'PFA-3');
my $fake = $t->fake;
$t->sql("CREATE TABLE found (token text); INSERT INTO found VALUES ('$seen')");

# ---- all that is done with a token ----

my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN pems_sync');

ok($t->wait_status($t->commit_edit('RIO', 'PFA-1', { monthlyRate => 1 }), 'synced'), 'an edit is synced');
$fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-2', changes => { monthlyRate => 2 } });
ok($t->wait_status($t->commit_edit('RIO', 'PFA-2', { monthlyRate => 3 }), 'conflict'), 'one is in conflict');
$fake->fault({ pfaId => 'PFA-3', status => 422, count => 1 });
ok($t->wait_status($t->commit_edit('RIO', 'PFA-3', { monthlyRate => 3 }), 'failed'), 'one is a dead letter');
$fake->fault({ pfaId => 'PFA-4', applyThenDrop => JSON::PP::true, count => 1 });
ok($t->wait_status($t->commit_edit('RIO', 'PFA-4', { monthlyRate => 3 }), 'synced'), 'the answer to one is lost');

# PEMS says the token in its answers, as text, with the escapes of JSON, and in a page
my $escaped = $token{echoed} =~ s{/}{\\/}gr;
my $coded   = join '', map { sprintf '\\u%04x', ord } split //, $token{echoed};
$fake->fault({ organizationCode => 'PERTH', pfaId => 'PFA-1', status => 422, count => 1,
    body => qq({"success": false, "error": "BAD", "message": "Authorization: Bearer $escaped and $coded"}) });
$fake->fault({ organizationCode => 'PERTH', pfaId => 'PFA-2', status => 400, count => 1, body => "<pre>Bearer $token{echoed}</pre>" });
my @echoed = map { $t->commit_edit('PERTH', $_, { monthlyRate => 3 }) } qw(PFA-1 PFA-2);
ok($t->wait_status($_, 'failed'), 'PEMS repeats the token') for @echoed;
like($t->item($echoed[0])->{last_error}, qr/Bearer \*+ and \*+/, 'where it stood are asterisks');

# a health check, a token that PEMS refuses, and another one
like($t->sql("SELECT pems_health_check('org-rio')"), qr/"healthy": true/, 'a health check');
$t->set_credential('RIO', $token{wrong});
$t->commit_edit('RIO', 'PFA-5', { monthlyRate => 4 });
ok($t->wait_for("SELECT credential = 'refused_by_pems' FROM pems_endpoints WHERE organization_code = 'RIO'"), 'a token is refused');
like($t->sql("SELECT pems_health_check('org-rio')"), qr/"healthy": false/, 'also in a health check');
$fake->add_organization('RIO', $token{second});
$t->set_credential('RIO', $token{second});
ok($t->quiet, 'with another one all goes on');

$t->run_program('', 'list', @server);
$t->run_program('', 'check', @server);
my @old_keys = slurp_file($key_file) =~ /^\S{16} (\S+)$/mg;
like($t->run_program('', 'rotate', $key_file, @server), qr/2 credentials sealed to it/, 'rotate');
my @keys = slurp_file($key_file) =~ /^\S{16} (\S+)$/mg;
cmp_ok(scalar @keys, '>', scalar @old_keys, 'there are more keys now');
ok($t->wait_status($t->commit_edit('RIO', 'PFA-6', { monthlyRate => 4 }), 'synced'), 'edits arrive with the new key');

# somebody tries what cannot work, with the token in the wrong place
$t->sql_error(q{SELECT pems_set_credential('org-rio', 'https://elsewhere.example', '\x00', 'k')});
$t->sql(q{SELECT pems_set_credential('org-rio', } . PemsSync::Test::quote($fake->url) . q{, decode(repeat('00', 64), 'hex'), pems_public_key() ->> 'keyId')});
ok($t->wait_for("SELECT credential = 'cannot_open' FROM pems_endpoints WHERE organization_code = 'RIO'"), 'what was sealed by nobody does not open');
$t->set_credential('RIO', $token{second});

# ---- what statistics and views show ----

my $shown = join "\n", map { $t->sql("SELECT q::text FROM $_ q") } qw(pg_stat_statements pg_stat_activity pg_settings pg_file_settings pems_queue
  pems_dead_letters pems_open_conflicts pems_worker pems_endpoints pems_audit_log pems_credential pems_sync_job pfa_write_queue pfa_modification),
  'pems_audit()', 'pems_health()', 'pems_sync_status()';
cmp_ok(length $shown, '>', 10000, 'statistics and views show much');
my $told = $listener->query_safe('SELECT 1');
$listener->quit;

# ---- a worker that dies, core dumps allowed ----

my $pid = $t->worker->{pid};
SKIP:
{
    skip 'no /proc', 2 if !-e "/proc/$pid/limits";
    like(slurp_file("/proc/$pid/limits"), qr/^Max core file size\s+0\s+0\s/m, 'the worker leaves no core file');
    skip 'root may read all memory', 1 if $> == 0;
    ok(!open(my $memory, '<', "/proc/$pid/mem"), 'nor can another process of its user look at its memory');
}
$fake->fault({ pfaId => 'PFA-7', hang => JSON::PP::true, count => 1 });
my $lost = $t->commit_edit('RIO', 'PFA-7', { monthlyRate => 5 });
ok($t->wait_for("SELECT status = 'processing' FROM pfa_write_queue WHERE modification_id = '$lost'"), 'a request is under way');
kill 'SEGV', $pid;
$t->wait_for_server;
ok($t->wait_status($lost, 'synced'), 'after the crash its edit arrives');

# ---- what is left behind ----

command_ok([ 'pg_dump', '-Fp', '-f', "$directory/dump.sql", '-d', $node->connstr('postgres') ], 'pg_dump');
command_ok([ 'pg_dumpall', '-f', "$directory/dumpall.sql", '-d', $node->connstr('postgres') ], 'pg_dumpall');
command_ok([ 'pg_basebackup', '-D', "$directory/backup", '-h', $node->host, '-p', $node->port, '--checkpoint=fast' ], 'pg_basebackup');
$t->sql('CHECKPOINT');
append_to_file("$directory/shown", $shown . ($told // ''));
ok($t->quiet, 'all is quiet');
$t->check;
$node->stop('fast');

my @files = files_below($node->data_dir, $node->logfile, map { "$directory/$_" } qw(dump.sql dumpall.sql backup shown));
like(files_with(\@files, $seen), qr/dump\.sql/, 'a text that is there is found in the dump');
for my $place (qr/^[0-9A-F]{24}$/, qr/\.log$/, qr/^\d+$/)
{
    ok((grep { $_ =~ $place } split / /, files_with(\@files, $seen)), "and in a file named $place");
}
is(files_with(\@files, values %token), '', 'no token in ' . @files . ' data files, WAL, log, statistics, dumps and backup');
is(files_with(\@files, @keys), '', 'and no secret key');
is(join(' ', grep { m{/core[^/]*$} } @files), '', 'there is no core file');

done_testing();
