// SPDX-License-Identifier: BSD-3-Clause
// mount-s3 BUCKET MOUNTPOINT ENDPOINT REGION: mountpoint-s3's library with the defaults of its own program.
use anyhow::{Context, Result};
use mountpoint_s3_client::config::AddressingStyle;
use mountpoint_s3_client::user_agent::UserAgent;
use mountpoint_s3_fs::data_cache::DataCacheConfig;
use mountpoint_s3_fs::fuse::config::{FuseOptions, FuseSessionConfig, MountPoint};
use mountpoint_s3_fs::memory::{CandidateSize, PagedPool};
use mountpoint_s3_fs::s3::config::{ClientConfig, MemoryLimitSetting, PartConfig, Region, TargetThroughputSetting};
use mountpoint_s3_fs::s3::{Bucket, S3Path};
use mountpoint_s3_fs::{MountpointConfig, Runtime, S3FilesystemConfig, Superblock, SuperblockConfig};

fn main() -> Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let fs_config = S3FilesystemConfig { allow_delete: true, ..Default::default() };
    let session = FuseSessionConfig::new(
        MountPoint::new(&a[2])?,
        FuseOptions { read_only: false, allow_other: true, allow_root: false, auto_unmount: false, clone_fd: false },
        16,
    )?;
    let limit = 512 << 20;
    let client_config = ClientConfig {
        region: Region::new_user_specified(a[4].clone()),
        endpoint_url: Some(a[3].clone()),
        addressing_style: AddressingStyle::Path,
        dual_stack: false,
        transfer_acceleration: false,
        auth_config: Default::default(),
        requester_pays: false,
        expected_bucket_owner: None,
        throughput_target: TargetThroughputSetting::Default,
        bind: None,
        part_config: PartConfig::with_part_size(8 << 20).validate(MemoryLimitSetting::Default(limit))?,
        user_agent: UserAgent::new(Some("perf".to_string())),
        tls_config: None,
    };
    let pool = PagedPool::config()
        .with_candidate_sizes([CandidateSize::new(8 << 20)])
        .with_memory_limit(limit)
        .build();
    let client = client_config.create_client(pool.clone(), None).context("client")?;
    let runtime = Runtime::new(client.event_loop_group());
    let superblock = Superblock::new(
        client.clone(),
        S3Path::new(Bucket::new(&a[1])?, Default::default()),
        SuperblockConfig { cache_config: fs_config.cache_config.clone(), s3_personality: fs_config.s3_personality },
    );
    let fuse = MountpointConfig::new(session, fs_config, DataCacheConfig::default())?
        .create_fuse_session(superblock, client, runtime, pool)?;
    fuse.join()?;
    Ok(())
}
