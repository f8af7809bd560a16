# pems_health(), the view pems_endpoints and pems_health_check(): what they say of all that can be wrong, and that a check
# keeps to the rate limit and leaves nothing behind, whatever becomes of the session or the worker.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use IPC::Run;
use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# Checks that a worker takes at a time (src/shared/shmem.h).
use constant MAX_CHECKS => 8;
# A session looks once a second whether its worker is still there.
use constant SOON => 30;

my $json = JSON::PP->new->canonical->allow_nonref->utf8(0);
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

my $t = PemsSync::Test->new('health',
    settings => { rate_limit => 10, poll_interval => '1h', retry_delay => '50ms', max_retries => 0, request_timeout => '2min' });
my $fake = $t->fake;
$t->add_organization($_) for qw(RIO LIMA);
$t->load('RIO', map { "PFA-$_" } 1 .. 20);
$t->sql("INSERT INTO organization (id, code, name) VALUES ('org-none', 'NONE', 'without a credential')");
$t->sql('CREATE ROLE watcher LOGIN IN ROLE pems_sync_reader');

# ---------- helpers ----------

sub health
{
    my (%options) = @_;
    return $json->decode($t->sql('SELECT pems_health()', %options));
}

# One test each: the status, and all problems, each as a pattern.
sub health_is
{
    my ($name, $status, @problems) = @_;
    my $health = {};
    my $fits   = sub {
        $health = health();
        return $health->{status} eq $status && @{ $health->{problems} } == @problems
          && !grep { $health->{problems}[$_] !~ $problems[$_] } 0 .. $#problems;
    };
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($t->wait_until($fits, what => "health: $name", timeout => SOON), "health: $name: $status") or diag($json->pretty->encode($health));
    return $health;
}

# A row of pems_endpoints.
sub endpoint { return $t->row('SELECT * FROM pems_endpoints WHERE organization_code = ' . PemsSync::Test::quote($_[0])) }

sub check
{
    my ($code) = @_;
    return $json->decode($t->sql("SELECT pems_health_check('" . PemsSync::Test::id_of($code) . "')"));
}

# One test: PEMS is not healthy, and why.
sub is_ill
{
    my ($code, $error, $name) = @_;
    my $answer = check($code);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $ok = ok(!$answer->{healthy} && $answer->{error} =~ $error && $answer->{error} !~ /token-of/, "check: $name");
    diag($json->encode($answer)) if !$ok;
    return $answer;
}

sub is_well
{
    my ($code, $name) = @_;
    my $answer = check($code);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $ok = ok($answer->{healthy} && $answer->{latency} > 0 && !exists $answer->{error}, "check: $name");
    diag($json->encode($answer)) if !$ok;
    return $answer;
}

# A session of its own that goes on meanwhile; finish() returns what psql printed.
sub begin
{
    my (@statements) = @_;
    my $session = { out => '' };
    $session->{handle} = IPC::Run::start(
        [ 'psql', '-X', '-q', '-A', '-t', '-v', 'VERBOSITY=verbose', '-d', $t->node->connstr('postgres'), map { ('-c', $_) } @statements ],
        '<', \'', '>&', \$session->{out});
    return $session;
}

sub finish { my ($session) = @_; IPC::Run::finish($session->{handle}); return $session->{out} }

sub begin_check { return begin("SELECT pems_health_check('org-rio')") }

# The backends that wait for a check.
my $waiting = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pems_health_check(%' AND state = 'active' AND pid <> pg_backend_pid()";

# Requests under way that PEMS does not answer.
sub hanging { return $fake->stats->{waiting} }

# ---------- all is well ----------

my $health = health_is('all is well', 'ok');
is_deeply($health->{problems}, [], 'no problems');
is_deeply([ sort keys %$health ], [qw(attached credentials endpoints paused problems queue status worker)], 'the keys of the answer');
is_deeply([ @$health{qw(attached paused)} ], [ $true, $false ], 'attached and not paused');
is_deeply($health->{queue}, { pending => 0, held => 0, processing => 0, failed => 0, conflicts => 0, oldestQueuedSeconds => 0 }, 'an empty queue');
is_deeply($health->{credentials}, { ok => 2, no_credential => 1 }, 'the credentials');
my $worker = $health->{worker};
is_deeply([ @$worker{qw(running state pid)} ], [ $true, 'running', $t->worker->{pid} ], 'the worker');
like($worker->{lastHeartbeat}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'its heartbeat');
is($worker->{version}, $t->sql("SELECT extversion FROM pg_extension WHERE extname = 'pems_sync'"), 'its version');
is(scalar @{ $health->{endpoints} }, 1, 'one endpoint');
is_deeply([ @{ $health->{endpoints}[0] }{qw(endpoint breaker rateLimit faults lastError waitsUntil)} ], [ $fake->endpoint, 'closed', 10, 0, undef, undef ], 'as it stands');
my $row = endpoint('RIO');
is_deeply([ @$row{qw(api_url endpoint credential credential_problem generation paused breaker rate in_flight faults)} ],
    [ $fake->url, $fake->endpoint, 'ok', undef, 1, $false, 'closed', 10, 0, 0 ], 'its row of pems_endpoints');
is_deeply([ @{ endpoint('NONE') }{qw(credential api_url breaker)} ], [ 'no_credential', undef, undef ], 'the row of an organization without a credential');
is_well('RIO', 'a healthy PEMS');
is((($fake->requests)[-1] // {})->{call}, 'health', 'PEMS was asked for its health');

# A reader may look, and may not make PEMS be called.
is($t->sql("SET ROLE watcher; SELECT pems_health() ->> 'status'"), 'ok', 'a reader may call pems_health()');
is($t->sql('SET ROLE watcher; SELECT count(*) FROM pems_endpoints'), '3', 'and read pems_endpoints');
like($t->sql_error("SET ROLE watcher; SELECT pems_health_check('org-rio')"), qr/^42501/, 'but not call pems_health_check()');

# ---------- what can be wrong ----------

$t->set(enabled => 'off');
health_is('disabled', 'down', qr/switched off by pems_sync\.enabled/);
is_well('RIO', 'PEMS is well though nothing is sent');
$t->set(enabled => 'on');

$t->set(key_file => $t->key_file . '-none');
$health = health_is('no key', 'down', qr/^The key file cannot be used: key file "\S+" does not exist.*correct pems_sync\.key_file\.\z/, qr/^Organization LIMA: there is no key that opens its credential\. The key file cannot be used: /, qr/^Organization RIO: there is no key/);
unlike($health->{problems}[0], qr/cannot be used.*cannot be used/, 'said once');
is_deeply($health->{credentials}, { no_key => 2, no_credential => 1 }, 'the credentials have no key');
is_deeply([ @{ endpoint('RIO') }{qw(credential)}, endpoint('RIO')->{credential_problem} =~ /does not exist/ ? 1 : 0 ], [ 'no_key', 1 ], 'so says pems_endpoints');
like($t->sql(q{SELECT _pems_why_not_sent('org-rio')}), qr/^The key file cannot be used: key file "\S+" does not exist/, 'and what pems_sync_state() says of a record that waits');
is_ill('RIO', qr/key file cannot be used/, 'no key');
$t->set(key_file => $t->key_file);
health_is('the key is back', 'ok');

$t->sql("UPDATE pems_control SET cluster = '1:1'; SELECT _pems_wake(true)");
$health = health_is('a copy', 'down', qr/is a copy.*pems_resume/);
is($health->{paused}, $true, 'a copy is paused');
is_ill('RIO', qr/is a copy/, 'a copy calls nobody');
$t->sql('SELECT pems_resume()');

$t->sql('SELECT pems_detach()');
$health = health_is('not attached', 'down', qr/not attached.*pems_attach/);
is($health->{attached}, $false, 'it says so');
like($t->sql_error('SELECT * FROM pems_endpoints'), qr/^55000/, 'pems_endpoints is an error then');
like($t->sql_error("SELECT pems_health_check('org-rio')"), qr/^55000/, 'and so is a check');
$t->sql('SELECT pems_attach()');
ok($t->wait_worker, 'the worker has seen it');
$t->sql('ALTER TABLE organization RENAME TO elsewhere');
$health = health_is('a table is missing', 'down', qr/not attached.*pems_attach/, qr/table organization is missing/) if $t->wait_for("SELECT pems_health() ->> 'attached' = 'false'");
is($health->{attached}, $false, 'that is not attached either');
$t->sql('ALTER TABLE elsewhere RENAME TO organization; SELECT pems_attach()');
health_is('attached again', 'ok');

$t->sql("SELECT pems_pause('org-rio', 'inventory', 'carol')");
$health = health_is('paused', 'degraded', qr/^Organization org-rio is paused by carol since \S+Z: inventory/);
is($health->{paused}, $true, 'it says so');
is(endpoint('RIO')->{paused}, $true, 'and so does pems_endpoints');
is(endpoint('LIMA')->{paused}, $false, 'of that one only');
is_well('RIO', 'a paused organization is called all the same');
$t->sql("SELECT pems_resume('org-rio'); SELECT pems_pause(reason => 'everything')");
health_is('all is paused', 'degraded', qr/^Sending is paused by \S+ since \S+Z: everything/);
is(endpoint('LIMA')->{paused}, $true, 'all are');
$t->sql('SELECT pems_resume()');

# No credential: that matters when an edit waits for one.
$t->sql("INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-none', 'PFA-1', 1, '{}')");
my $unsent = $t->commit_edit('NONE', 'PFA-1', { dor => 'BEO' });
health_is('no credential', 'degraded', qr/^Organization NONE: there is no credential, and edits wait for one; set it with pems-credential set\.\z/);
is($t->sql("SELECT pems_discard('$unsent') ->> 'outcome'"), 'cancelled', 'discarded');

# A credential that PEMS refuses.
$fake->add_organization('RIO', 'changed');
my $edit = $t->commit_edit('RIO', 'PFA-1', { monthlyRate => 1 });
health_is('a refused credential', 'degraded', qr/^Organization RIO: PEMS refuses its credential\. .*401/);
is(endpoint('RIO')->{credential}, 'refused_by_pems', 'so says pems_endpoints');
is_deeply(health()->{credentials}, { ok => 1, no_credential => 1, refused_by_pems => 1 }, 'and the counts');
is_ill('RIO', qr/401/, 'a refused token');
$fake->add_organization('RIO', 'token-of-RIO');
$t->set_credential('RIO', 'token-of-RIO');
ok($t->wait_status($edit, 'synced'), 'a new credential');
health_is('after it', 'ok');

$fake->fault({ pfaId => 'PFA-2', status => 422, count => 1 });
my $dead = $t->commit_edit('RIO', 'PFA-2', { monthlyRate => 2 });
ok($t->wait_status($dead, 'failed'), 'a dead letter');
$health = health_is('a dead letter', 'degraded', qr/^1 dead letter; see the view pems_dead_letters/);
is($health->{queue}{failed}, 1, 'it is counted');
$t->sql("SELECT pems_discard('$dead')");

$fake->edit({ organizationCode => 'RIO', pfaId => 'PFA-3', changes => { monthlyRate => 33 } });
my $conflict = $t->commit_edit('RIO', 'PFA-3', { monthlyRate => 3 });
ok($t->wait_status($conflict, 'conflict'), 'a conflict');
$health = health_is('a conflict', 'degraded', qr/^1 conflict waits for a user; see the view pems_open_conflicts/);
is($health->{queue}{conflicts}, 1, 'it is counted');
$t->sql("SELECT pems_discard('$conflict')");
health_is('both decided', 'ok');

# ---------- a check and the rate limit ----------

$t->set(rate_limit => 1);
ok($t->wait_for("SELECT rate = 1 FROM pems_endpoints WHERE organization_code = 'RIO'"), 'one request a second');
my @many = $t->load_many('RIO', 'MANY-', 60);
my $mark = $fake->mark;
$t->commit('RIO', [ $t->edits('RIO', map { [ $_, { monthlyRate => 5 } ] } @many) ]);
ok($t->wait_until(sub { $fake->requests(since => $mark) > 0 }, what => 'a request'), 'edits use up the rate limit');
is_well('RIO', 'a check gets its turn while edits wait');
cmp_ok($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'pending'"), '>', 0, 'and is not behind all of them');
is($fake->stats->{requests}{maxPerSecond} > 10, '', 'no second has seen more than its limit');
my @at = map { $_->{monotonicUs} } $fake->requests(since => $mark);
is(scalar(grep { $at[$_] - $at[ $_ - 1 ] < 1_000_000 } 1 .. $#at), 0, 'the check counts: a second between any two requests');

$t->set(rate_limit => 10);
ok($t->wait_for("SELECT rate = 10 FROM pems_endpoints WHERE organization_code = 'RIO'"), 'ten requests a second');
ok($t->quiet, 'all edits are sent');
my @sessions;
for (1 .. 3)
{
    push @sessions, map { begin_check() } 1 .. 6;
    like(finish($_), qr/"healthy": true/, 'checks of several sessions at a time') for @sessions;
    @sessions = ();
}
cmp_ok($fake->stats->{requests}{maxPerSecond}, '<=', 10, 'no second saw more than ten requests, checks included');
$t->set(rate_limit => 0);
ok($t->wait_for("SELECT rate = 0 FROM pems_endpoints WHERE organization_code = 'RIO'"), 'no limit');

# More than there is room for at a time: each is answered, or told to try again.
my ($slow) = $fake->fault({ call => 'health', delayMs => 4000 });
@sessions = map { begin_check() } 1 .. 10;
my @answers = map { finish($_) } @sessions;
is(scalar(grep { /"healthy": true/ } @answers), MAX_CHECKS, 'of ten checks at a time eight are made');
is(scalar(grep { /Too many health checks are under way; try again\./ } @answers), 10 - MAX_CHECKS, 'the others are told to try again');
$fake->clear_faults($slow);
is_well('RIO', 'after many');

# ---------- what ends a check early ----------

# Twenty times: more often than there are places.  What PEMS has not answered keeps its place until it does.
($slow) = $fake->fault({ call => 'health', delayMs => 400 });
my %cancelled = (timeout => 0, administrator => 0);
my $cancel = sub {
    my $way = $cancelled{timeout} <= $cancelled{administrator} ? 'timeout' : 'administrator';
    my $session = begin($way eq 'timeout' ? "SET statement_timeout = '100ms'" : (), "SELECT pems_health_check('org-rio')");
    $t->sql("SELECT pg_cancel_backend(pid) FROM ($waiting) w") if $way eq 'administrator' && $t->wait_for("SELECT EXISTS ($waiting)", timeout => 1);
    my $output = finish($session);
    $cancelled{$way}++ if $output =~ /ERROR:\s+57014/;
    return $cancelled{timeout} + $cancelled{administrator} == 20;
};
ok($t->wait_until($cancel, what => 'twenty cancelled checks', timeout => 240), 'checks are cancelled, by statement_timeout and by pg_cancel_backend()');
is_deeply(\%cancelled, { timeout => 10, administrator => 10 }, 'ten times each');
ok($t->wait_until(sub { hanging() == 0 }, what => 'the last answer'), 'PEMS has answered them all');
$fake->clear_faults($slow);
@sessions = map { begin_check() } 1 .. MAX_CHECKS;
is(scalar(grep { finish($_) =~ /"healthy": true/ } @sessions), MAX_CHECKS, 'all places are free again');

# The session ends.
my ($hang) = $fake->fault({ call => 'health', hang => $true });
my $session = begin_check();
ok($t->wait_until(sub { hanging() == 1 }, what => 'a request'), 'a check hangs');
is($t->sql('SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity s ON s.pid = l.pid '
      . "WHERE s.query LIKE 'SELECT pems_health_check(%' AND c.relname IN ('organization', 'pfa_mirror', 'pfa_modification')"),
    '0', 'it holds no lock on the tables of the application');
$t->holds_nothing('while a check hangs');
$t->sql("SELECT pg_terminate_backend(pid, 5000) FROM ($waiting) w");
finish($session);
my $works = $t->commit_edit('RIO', 'PFA-4', { monthlyRate => 4 });
ok($t->wait_status($works, 'synced'), 'a session that ends in the middle of a check disturbs nobody');

# The worker ends.
$session = begin_check();
ok($t->wait_until(sub { hanging() == 2 }, what => 'a request'), 'another check hangs');
my $pid = $t->worker->{pid};
my $began = time;
$t->sql("SELECT pg_terminate_backend($pid, 5000)");
like(finish($session), qr/"error": "The worker ended before PEMS answered\."/, 'a worker that ends leaves nobody waiting');
cmp_ok(time - $began, '<', SOON, 'for long');
ok($t->wait_worker(not_pid => $pid), 'another worker runs');
$fake->clear_faults($hang);
ok($t->wait_until(sub { check('RIO')->{healthy} }, what => 'a check'), 'and makes checks');

# ---------- what PEMS may answer ----------

for my $case (
    [ 'refuses the token',   { status => 401 }, qr/401/ ],
    [ 'is not there',        { status => 404 }, qr/404/ ],
    [ 'says no',             { successFalse => 'MAINTENANCE' }, qr/MAINTENANCE|success/ ],
    [ 'redirects',           { redirect => 'https://elsewhere.invalid/' }, qr/30\d|redirect/i ],
    [ 'ends the connection', { dropBeforeApply => $true }, qr/\w/ ])
{
    my ($name, $fault, $error) = @$case;
    my ($number) = $fake->fault({ call => 'health', %$fault });
    is_ill('RIO', $error, "PEMS $name");
    $fake->clear_faults($number);
}
is(endpoint('RIO')->{paused}, $false, 'a check pauses nobody');

# A token that PEMS echoes is in no result.
my $echo = 'the header was Authorization: Bearer token-of-RIO; ' . 'token-of-RIO';
for my $fault ({ status => 500, body => { success => $false, error => 'token-of-RIO', message => $echo } }, { status => 422, body => $echo }, { status => 401, body => $echo })
{
    my ($number) = $fake->fault({ call => 'health', %$fault });
    my $answer = is_ill('RIO', qr/\w/, "PEMS answers $fault->{status} and echoes the token");
    $fake->clear_faults($number);
    unlike($json->encode([ $answer, health(), $t->rows('SELECT * FROM pems_endpoints') ]), qr/token-of-RIO/, 'which nobody gets to see');
}
is_well('RIO', 'after all that');

# ---------- the breaker ----------

$t->add_fake('ill');
$t->add_organization('PERTH', fake => 'ill');
ok($t->wait_for("SELECT credential = 'ok' FROM pems_endpoints WHERE organization_code = 'PERTH'"), 'an organization with an endpoint of its own');
is_well('PERTH', 'it is well');
my $ill  = $t->fake('ill');
my $port = $ill->port;
$ill->stop;
# its log has health checks only; a new one begins another
delete $t->{fakes}{ill};
is_ill('PERTH', qr/\w/, 'a dead PEMS') for 1 .. 5;
$health = health_is('a breaker is open', 'degraded', qr/^PEMS at \Q@{[ $ill->endpoint ]}\E does not answer \(5 faults in a row\): /);
my ($state) = grep { $_->{endpoint} eq $ill->endpoint } @{ $health->{endpoints} };
is_deeply([ @$state{qw(breaker faults)} ], [ 'open', 5 ], 'the endpoint says so');
like($state->{waitsUntil}, qr/Z$/, 'and until when');
$row = endpoint('PERTH');
is_deeply([ @$row{qw(breaker faults credential)} ], [ 'open', 5, 'ok' ], 'so does pems_endpoints');
ok(defined $row->{last_error} && defined $row->{last_error_at}, 'with the last error');
is_ill('PERTH', qr/^PEMS does not answer, and it is not time for the next try/, 'the breaker is open');
is(endpoint('RIO')->{breaker}, 'closed', 'another endpoint has its own');
is_well('RIO', 'and is called');
$t->add_fake('well again', port => $port)->add_organization('PERTH', 'token-of-PERTH');
ok($t->wait_until(sub { check('PERTH')->{healthy} }, what => 'a probe', timeout => 20), 'a check that is due is the probe');
health_is('the breaker is closed', 'ok');

# ---------- arguments ----------

like($t->sql_error('SELECT pems_health_check(NULL)'), qr/^22023/, 'NULL');
like($t->sql_error("SELECT pems_health_check('nowhere')"), qr/^P0002/, 'an unknown organization');
my $long = q{repeat(U&'\+01F600', 200)};
$t->sql("INSERT INTO organization (id, code, name) VALUES ($long, 'LONG', 'a long id')");
like($t->sql("SELECT pems_health_check($long)"), qr/The organization has no credential for PEMS\./, 'the longest id that may be');
$t->sql("DELETE FROM organization WHERE code = 'LONG'");
like($t->sql_error("SELECT pems_health_check($long || 'o')"), qr/^22023/, 'a longer one');

# ---------- DROP EXTENSION ----------

$t->check('the checker is content');
($hang) = $fake->fault({ call => 'health', hang => $true });
$session = begin_check();
ok($t->wait_until(sub { hanging() > 0 }, what => 'a request'), 'a check hangs');
$began = time;
$t->sql('DROP EXTENSION pems_sync CASCADE');
like(finish($session), qr/"error": "The extension was dropped\."/, 'DROP EXTENSION does not wait for a check, and the check is told');
cmp_ok(time - $began, '<', SOON, 'at once');
$t->sql('CREATE EXTENSION pems_sync');
ok($t->wait_for('SELECT pems_health() ->> \'status\' = \'ok\'', timeout => SOON), 'the extension is made again');
is_deeply(health()->{credentials}, { no_credential => 4 }, 'without credentials');
is_ill('RIO', qr/has no credential/, 'no credential');
$t->node->stop('fast');

# ---------- servers without a worker ----------

for my $case (
    [ 'not_preloaded', '', qr/^No worker is configured for database "postgres": set shared_preload_libraries/, qr/not in shared_preload_libraries/ ],
    [ 'not_listed', "shared_preload_libraries = 'pems_sync'\n", qr/^No worker is configured for database "postgres"/, qr/worker of this database is not running/ ],
    [ 'not_running', "shared_preload_libraries = 'pems_sync'\npems_sync.databases = 'postgres'\nmax_worker_processes = 0\n",
        qr/^The worker is not running; see the server's log/, qr/worker of this database is not running/ ])
{
    my ($name, $configuration, $problem, $error) = @$case;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init;
    $node->append_conf('postgresql.conf', $configuration);
    $node->start;
    $node->safe_psql('postgres', "CREATE EXTENSION pems_sync; SELECT pems_attach(create_missing => true); INSERT INTO organization (id, code, name) VALUES ('org-rio', 'RIO', 'Rio')");
    # each in a session of its own, in which the library is loaded by the call
    my $answer = $json->decode($node->safe_psql('postgres', 'SELECT pems_health()'));
    is($answer->{status}, 'down', "$name: health: down");
    is(scalar @{ $answer->{problems} }, 1, "$name: one problem");
    like($answer->{problems}[0], $problem, "$name: which says what to do");
    is_deeply([ @{ $answer->{worker} }{qw(running pid)}, $answer->{worker}{state} ], [ $false, undef, 'absent' ], "$name: no worker");
    like($node->safe_psql('postgres', "SELECT pems_health_check('org-rio')"), $error, "$name: a check says so, too");
    is($node->safe_psql('postgres', 'SELECT credential FROM pems_endpoints'), 'no_credential', "$name: pems_endpoints can be read");
    $node->stop('fast');
}

done_testing();
