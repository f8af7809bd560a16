# What a server can run out of: places for background workers, and room on its disks.  The server and its queue live through it,
# pems_health() says what is missing, and when it is there again, all goes on without further steps.
#
# Disks are small file systems, which only root can mount; test/layers/tap.sh does, and names one in PEMS_SMALL_DISK.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

use constant SOON => 40;

sub health
{
    my ($t, @options) = @_;
    return decode_json($t->sql('SELECT pems_health()', @options));
}

sub count_of
{
    my ($t, $status, @ids) = @_;
    return $t->sql("SELECT count(*) FROM pfa_modification WHERE sync_status = '$status' AND id = ANY (" . PemsSync::Test::text_array(\@ids) . ')');
}

sub all_synced
{
    my ($t, $name, @ids) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok($t->wait_until(sub { count_of($t, 'synced', @ids) == @ids }, what => 'all edits', timeout => 2 * SOON), $name);
}

# The end of a test file's part: as finish(), but more follows.
sub finish_part
{
    my ($t) = @_;
    ok($t->quiet, 'all is quiet');
    $t->check('the checker is content');
    $t->node->stop('fast');
    return;
}

# ---- max_worker_processes ----

subtest 'max_worker_processes is used up' => sub {
    # the server's own launcher of logical replication takes one, the first database the other
    my $t = PemsSync::Test->new('places', databases => [ 'first', 'second' ], settings => { rate_limit => 0 }, conf => 'max_worker_processes = 2');
    like($t->log_since(0), qr/too many background workers/, 'the server starts, and its log says that there are too many');
    $t->add_organization('FIRST', db => 'first');
    $t->add_fake('second');
    $t->add_organization('SECOND', fake => 'second', db => 'second');
    $t->load($_, 'PFA-1') for qw(FIRST SECOND);
    my $served = $t->commit_edit('FIRST', 'PFA-1', { monthlyRate => 1 });
    ok($t->wait_status($served, 'synced', db => 'first', timeout => SOON), 'the first database is served');

    my $health = health($t, db => 'second');
    is($health->{status}, 'down', 'the second is not, and pems_health() says down');
    like($health->{problems}[0], qr/The worker is not running.*max_worker_processes \(2\) is used up: raise it and restart the server/, 'why, and what to do');
    my $waits = $t->edit('SECOND', 'PFA-1', { monthlyRate => 2 });
    my ($status, $out, $err) = $t->node->psql('second', PemsSync::Test::commit_statement('SECOND', [$waits]));
    is(decode_json($out)->{queuedCount}, 1, 'pems_commit() queues');
    like($err, qr/WARNING: .*worker of database "second" is not running.*DETAIL: .*HINT: .*max_worker_processes/s, 'with a WARNING that says the same');

    $t->node->append_conf('postgresql.conf', 'max_worker_processes = 4');
    $t->node->restart;
    ok($t->wait_status($waits, 'synced', db => 'second', timeout => SOON), 'raised, and after a restart, all is sent');
    ok($t->wait_until(sub { health($t, db => 'second')->{status} eq 'ok' }, what => 'health', timeout => SOON), 'and all is well');
    $t->check('the checker is content with both databases', '--busy');
    $t->node->stop('fast');
};

# ---- disks ----

my $disk = $ENV{PEMS_SMALL_DISK} // '';
my $why  = $disk eq '' ? 'no small file system: only root can mount one (make test does, as root or with sudo)' : '';

# Until nothing fits any more.
sub fill
{
    my ($file) = @_;
    open my $handle, '>', $file or die "$file: $!";
    my $block = 'x' x 65536;
    for my $size (65536, 4096, 1)
    {
        1 while defined syswrite $handle, $block, $size;
    }
    close $handle;
    return;
}

SKIP:
{
    skip $why, 1 if $why ne '';
    subtest 'the disk of the database is full' => sub {
        mkdir "$disk/space" or die "$disk/space: $!";
        my $t = PemsSync::Test->new('full', settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1s', max_in_flight => 8 });
        $t->sql("CREATE TABLESPACE small LOCATION '$disk/space'; CREATE DATABASE served TABLESPACE small", db => 'postgres');
        $t->node->append_conf('postgresql.conf', "pems_sync.databases = 'served'\nautovacuum = off");
        $t->node->restart;
        $t->{db} = 'served';
        $t->sql('CREATE EXTENSION pems_sync; SELECT pems_attach(create_missing => true)');
        $t->add_organization('RIO');
        my $fake    = $t->fake;
        my @pfa_ids = $t->load_many('RIO', 'PFA-', 120);
        ok($t->wait_worker(timeout => SOON), 'a database on a small disk');

        # requests that are under way when the disk becomes full, and many that wait
        my ($slow) = $fake->fault({ delayMs => 1000 });
        my @ids = $t->edits('RIO', map { [ $_, { description => 'x' x 450 } ] } @pfa_ids[ 0 .. 99 ]);
        $t->commit('RIO', \@ids);
        ok($t->wait_until(sub { $fake->stats->{waiting} == 8 }, what => 'requests'), 'requests are under way');
        $t->sql('CREATE TABLE filler (t text)');
        fill("$disk/filler");
        my $error = '';
        ok($t->wait_until(sub { $error = $t->sql_error("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 1000)"); return $error ne '' }, what => 'a full disk'),
            'the disk is filled');
        like($error, qr/^53100:/, 'an INSERT fails with 53100');
        # what is free in the tables is used up by what is recorded
        $fake->clear_faults($slow);
        my $worker = $t->worker->{pid};
        ok($t->wait_until(sub { ($t->worker->{last_error} // '') =~ /No space left on device/ }, what => 'what the worker says', timeout => SOON), 'the worker meets it');
        my $health = health($t);
        is($health->{status}, 'degraded', 'pems_health() says degraded');
        like(join(' ', @{ $health->{problems} }), qr/The worker says: .*No space left on device/, 'and why');
        is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'failed'"), '0', 'no item became a dead letter');
        $t->is_calm('while the disk is full');
        is($t->worker->{pid}, $worker, 'the worker lives');

        unlink "$disk/filler";
        all_synced($t, 'when there is room again all edits are synced, without further steps', @ids);
        is(scalar(my @changes = $fake->changes(by => 'client')), 100, 'each once');
        is($t->sql('SELECT max(retry_count) FROM pfa_write_queue'), '0', 'none lost a retry');
        ok($t->wait_until(sub { health($t)->{status} eq 'ok' }, what => 'health', timeout => SOON), 'all is well') or diag explain health($t);
        finish_part($t);
        $t->node->clean_node;
    };
}

SKIP:
{
    skip $why, 1 if $why ne '';
    subtest 'the disk of the write-ahead log is full' => sub {
        my $t = PemsSync::Test->new('wal', init => { extra => [ '--waldir', "$disk/wal", '--wal-segsize', '1' ] },
            settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1s', max_in_flight => 8 },
            # no segment is used again, so each needs room
            conf => "wal_keep_size = 1GB\nmin_wal_size = 2MB\nmax_wal_size = 4MB\nautovacuum = off");
        $t->add_organization('RIO');
        my $fake    = $t->fake;
        my @pfa_ids = $t->load_many('RIO', 'PFA-', 60);
        my ($slow)  = $fake->fault({ delayMs => 500 });
        my @ids     = $t->edits('RIO', map { [ $_, { monthlyRate => 5 } ] } @pfa_ids);
        $t->sql('CREATE TABLE filler (t text)');
        $t->commit('RIO', \@ids);
        ok($t->wait_until(sub { $fake->stats->{waiting} == 8 }, what => 'requests'), 'requests are under way');
        my $position = $t->log_position;
        fill("$disk/filler");
        ok($t->wait_until(sub { !$t->sql_succeeds("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 500)") }, what => 'the end of the log'), 'nothing can be written any more');
        ok($t->wait_until(sub { $t->log_since($position) =~ /PANIC:.*No space left on device/ }, what => 'a PANIC', timeout => SOON), 'PostgreSQL stops itself: that is its own way');
        $fake->clear_faults($slow);
        unlink "$disk/filler";
        # it may have come up again by itself, or given up
        $t->wait_until(sub { $t->sql_succeeds('SELECT 1') || $t->log_since($position) =~ /database system is shut down/ }, what => 'the server', timeout => SOON);
        if (!$t->sql_succeeds('SELECT 1'))
        {
            $t->node->_update_pid(0);
            $t->node->start;
        }
        ok($t->wait_for_server, 'when there is room again the server starts');
        all_synced($t, 'and all edits are synced', @ids);
        is($t->sql("SELECT count(*) FROM pfa_write_queue WHERE status <> 'completed'"), '0', 'none is left');
        is(scalar(my @changes = $fake->changes(by => 'client')), 60, 'each once');
        is(health($t)->{status}, 'ok', 'all is well');
        finish_part($t);
        $t->node->clean_node;
    };
}

done_testing();
