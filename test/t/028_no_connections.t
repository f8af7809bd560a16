# A database that takes no connections, or is not there before anybody has connected to the server: waited for, quietly.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;
use Time::HiRes ();

# How long the log is watched; a worker is started again every second or two.
use constant WATCHED => 7;

my $t = PemsSync::Test->new('no_connections', settings => { databases => 'missing' });

# The workers' complaints since then, by database.
sub complaints
{
    my ($position, $pattern) = @_;
    return scalar grep { /(?:FATAL|ERROR|PANIC):.*$pattern/ } split /\n/, $t->log_since($position);
}

# ---- nobody has connected since the server's start ----

my $position = $t->log_position;
$t->node->restart;
Time::HiRes::sleep(WATCHED);
is(complaints($position, 'without having selected a database'), 0, 'a worker without a database reads no catalogue that it cannot read');
cmp_ok(complaints($position, '"missing"'), '<=', 1, 'a missing database is mentioned once');
$t->set(databases => 'postgres,closed,missing');
$t->node->restart;

# ---- a database that takes no connections ----

$position = $t->log_position;
$t->sql('CREATE DATABASE closed ALLOW_CONNECTIONS false');
Time::HiRes::sleep(WATCHED);
cmp_ok(complaints($position, '"closed"'), '<=', 1, 'a database that takes no connections is mentioned once');
is($t->sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pems_sync worker' AND datid IS NULL"), '2', 'two workers wait, for the closed one and the missing one');
$t->sql('ALTER DATABASE closed ALLOW_CONNECTIONS true');
ok($t->wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pems_sync worker' AND datname = 'closed'", timeout => 10), 'when it takes them its worker connects');

# ---- one that was left half dropped ----

$t->sql('CREATE DATABASE missing');
ok($t->wait_for("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pems_sync worker' AND datname = 'missing'", timeout => 10), 'the missing one is made');
$t->sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'missing'");
$position = $t->log_position;
$t->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pems_sync worker' AND datname = 'missing'");
Time::HiRes::sleep(WATCHED);
cmp_ok(complaints($position, '"missing"'), '<=', 1, 'a database that is invalid is mentioned once');
$t->sql("UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'missing'");

$t->node->stop('fast');
done_testing();
