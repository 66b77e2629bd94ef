//! Pods' interfaces that are TAP devices.

use fastpath::{PortSnapshot, Tap, TapSpec};
use host::{Handle, Netns, PodInterface, PodSpec, TAP_MTU_MAX};
use podswitch_api::{Code, Error};
use switch::PortId;

use super::{Device, Live, Maker, Object, Wanted, engine_error, kernel_error};

impl Live {
    /// Whether it is the TAP device with this index in the pod.
    pub fn is_tap_with_index(&self, index: u32) -> bool {
        matches!(&self.object, Object::Pod(pod, _, Some(_)) if pod.pod_index == index)
    }

    /// Whether it is a TAP device whose pod's namespace has lost its name: only we keep it alive, as far
    /// as can be told.
    pub fn is_orphan(&self) -> bool {
        let Object::Pod(pod, _, Some(Device { queue: Some(_) })) = &self.object else {
            return false;
        };
        let netns = self.wanted.port().and_then(|port| port.netns.as_ref());
        let now = netns.and_then(|path| Netns::open(path).ok());
        now.is_none_or(|now| now.inode() != pod.netns_inode)
    }

    /// Closes our own descriptor of a TAP device, with which it ends as its pod does.
    pub fn forget_device(&mut self) {
        drop(self.take_device());
    }

    /// Our own descriptor of a TAP device.
    pub(super) fn take_device(&mut self) -> Option<Tap> {
        match &mut self.object {
            Object::Pod(_, _, Some(device)) => device.queue.take(),
            _ => None,
        }
    }

    /// Has a TAP device go with its descriptors.
    pub(super) fn let_device_go(&self) {
        if let Object::Pod(_, _, Some(Device { queue: Some(queue) })) = &self.object
            && let Err(e) = queue.set_persistent(false)
        {
            tracing::debug!("{}: {e}", self.dev);
        }
    }
}

/// Closes the last descriptors of devices, many at a time: for each the kernel waits some 20 ms until nobody
/// uses it any more, and for several together hardly longer.
pub(super) fn remove(devices: Vec<Tap>) {
    const AT_ONCE: usize = 32;
    let mut devices = devices.into_iter().peekable();
    while devices.peek().is_some() {
        std::thread::scope(|scope| {
            for device in devices.by_ref().take(AT_ONCE) {
                scope.spawn(move || drop(device));
            }
        });
    }
}

impl Maker<'_> {
    pub(super) fn open_tap(
        &self,
        id: PortId,
        wanted: &Wanted,
        spec: PodSpec,
    ) -> Result<Live, Error> {
        // The pod may have been plugged in by a veth before.
        self.kernel.delete_link_by_name(&spec.host_name).map_err(kernel_error)?;
        let (pod, queues) = match self.existing_tap(&spec)? {
            Some(kept) => kept,
            // What fails from here on takes the device with it: its descriptors are closed.
            None => {
                let create = || Tap::create(&spec.ifname, spec.queues as usize);
                let made = PodInterface::plug_in_tap(self.kernel, &spec, create);
                made.map_err(kernel_error)?.map_err(engine_error)?
            }
        };
        let system = |e: std::io::Error| Error::system(format!("{}: {e}", spec.ifname));
        let first = queues.first().ok_or_else(|| Error::new(Code::Internal, "no queue"))?;
        let queue = first.try_clone().map_err(system)?;
        let (dev, mtu) = (spec.ifname.clone(), spec.mtu.min(TAP_MTU_MAX));
        let tap = TapSpec { ifname: dev.clone(), queues, mtu };
        let attached = self.engine.attach_tap(id, tap).map_err(engine_error)?;
        let live = Live {
            id,
            wanted: wanted.clone(),
            dev,
            ifindex: 0,
            mtu,
            mac: pod.mac,
            attached: Some(attached),
            baseline: PortSnapshot::default(),
            object: Object::Pod(pod, spec.routes, Some(Device { queue: None })),
        };
        // Last, so that a device that was never finished goes with the daemon.
        if let Err(e) = queue.set_persistent(true) {
            self.detach(&live);
            return Err(system(e));
        }
        Ok(live.with_device(queue))
    }

    /// The device that an earlier daemon made for this pod and left when it died, opened; one that fits
    /// no more is removed.
    fn existing_tap(&self, spec: &PodSpec) -> Result<Option<(PodInterface, Vec<Tap>)>, Error> {
        let found = PodInterface::find_tap(&spec.netns, &spec.ifname).map_err(kernel_error)?;
        let Some(pod) = found else { return Ok(None) };
        if pod.mac == spec.mac {
            let open = || {
                let queues = Tap::open(&spec.ifname, spec.queues as usize).map_err(engine_error)?;
                // The device has a carrier again, but sends nothing before the kernel finds time to make
                // that known. Asked for the device, it does so first (Linux 6.8).
                Handle::current()
                    .and_then(|h| h.link_by_index(pod.pod_index))
                    .map_err(kernel_error)?;
                Ok(queues)
            };
            let netns = Netns::open(&spec.netns).map_err(kernel_error)?;
            let queues = netns.run(open).map_err(kernel_error)??;
            return Ok(Some((pod, queues)));
        }
        PodInterface::remove_tap(&spec.netns, &spec.ifname).map_err(kernel_error)?;
        Ok(None)
    }
}

impl Live {
    fn with_device(mut self, queue: Tap) -> Live {
        if let Object::Pod(_, _, Some(device)) = &mut self.object {
            device.queue = Some(queue);
        }
        self
    }
}
