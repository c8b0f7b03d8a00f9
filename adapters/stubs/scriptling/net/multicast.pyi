from adapters.scriptling.net.multicast import Group as Group
from adapters.scriptling.net.multicast import join as join
