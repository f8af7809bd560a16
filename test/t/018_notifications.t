# Listeners are told in a step of its own: what cannot be told is lost, and nothing else.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use PemsSync::Test;
use Test::More;

plan skip_all => 'no server with failpoints (make test builds one)' if !PemsSync::Test::has_failpoints();

my $t = PemsSync::Test->new('notifications', failpoints => 1, settings => { rate_limit => 0, retry_delay => '100ms' });
$t->add_organization('RIO');
$t->load('RIO', map { "PFA-$_" } 1 .. 3);
my $listener = $t->node->background_psql('postgres', on_error_stop => 0);
$listener->query_safe('LISTEN pems_sync');
my $position = $t->log_position;

# An edit whose notification the server refuses.
for my $number (1, 2)
{
    $t->arm('notify_uncommitted', 'error');
    my $id = $t->commit_edit('RIO', "PFA-$number", { monthlyRate => $number });
    ok($t->reached('notify_uncommitted'), "edit $number: listeners cannot be told");
    ok($t->wait_status($id, 'synced'), 'it is synced all the same');
    is($t->attempts($id), 'PUT 200', 'with one attempt, which is in the audit log');
    ok($t->wait_for("SELECT last_error LIKE 'listeners could not be told: %' FROM pems_worker"), 'administrators see why');
}
is(scalar(() = $t->log_since($position) =~ /WARNING:  pems_sync: listeners could not be told/g), 1, 'the log says it once');

my $id = $t->commit_edit('RIO', 'PFA-3', { monthlyRate => 3 });
my $heard = '';
ok($t->wait_until(sub { $heard .= ($listener->query('SELECT 1'))[0]; return $heard =~ /SYNC_SUCCESS.*\Q$id\E|\Q$id\E.*SYNC_SUCCESS/ }, what => 'a notification'),
    'the next one is told');
unlike($heard, qr/PFA-[12]"/, 'what was lost is not told later');
ok($t->wait_for('SELECT last_error IS NULL FROM pems_worker'), 'and the worker has no complaint');
$listener->quit;
$t->finish;
