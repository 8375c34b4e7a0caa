# Four receivers that divide the streams of a fleet; the index of an allocation is its shard.
# To have five: write 5 for `shards`, and run the job again.
variable "shards" {
  type    = number
  default = 4
}

job "edgesem-receiver" {
  type = "service"

  group "receiver" {
    count = var.shards

    # Nomad tries to bring the disk along when it replaces an allocation. Where that matters, mount a volume for each.
    ephemeral_disk {
      size    = 20000
      sticky  = true
      migrate = true
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    update {
      max_parallel = 1
      health_check = "task_states"
    }

    task "receiver" {
      driver = "exec"

      config {
        command = "/opt/edgesem/current/venv/bin/edgesem"
        args = [
          "receive",
          "--config", "/etc/edgesem/receive.toml",
          "--shard", "${NOMAD_ALLOC_INDEX}/${var.shards}",
          "--state-dir", "${NOMAD_ALLOC_DIR}/data/state",
          "--out", "${NOMAD_ALLOC_DIR}/data/received",
        ]
      }

      kill_timeout = "30s"

      resources {
        cpu    = 1000
        memory = 512
      }
    }
  }
}
